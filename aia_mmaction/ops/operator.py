"""The fast paths as operators of PyTorch.

``torch.compile`` and ``torch.export`` see one operator for a whole layer and
need not look into it. Its backward pass is a second operator. From the forward
pass it needs the input (see :mod:`.recompute`), the weights, and what the path
saves that is small.

A *path* is a module (``fused``, ``numba``, ``triton``) with the functions
``forward``, ``forward_inplace``, ``backward`` and ``new_saved``;
:mod:`.fused` describes them.
"""

from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any, List, Optional, Sequence, Tuple, cast

import torch
from torch import Tensor

from . import reference
from .clips import from_clips, to_clips
from .dispatch import is_compiling
from .parameters import Parameters, Saved, float_type, unpack
from .recompute import save_input
from .specification import Specification

# The operators' arguments. `torch.library.custom_op` would write them down
# itself, and cost 0.1 ms more a call.
_TYPES = {str: 'str', int: 'SymInt', float: 'float', bool: 'bool'}
_SPECIFICATION = ', '.join(
    f'{_TYPES[kind]} {name}' for name, kind in Specification.__annotations__.items()
)
_PARAMETERS = 'Tensor weight, Tensor scale, Tensor shift, Tensor? stats'

torch.library.define(
    'aia_mmaction::attention',
    f'(Tensor x, {_PARAMETERS}, {_SPECIFICATION}, bool backward, str path) '
    '-> (Tensor, Tensor, Tensor, Tensor)',
)
torch.library.define(
    'aia_mmaction::attention_',
    f'(Tensor(a!) x, {_PARAMETERS}, {_SPECIFICATION}, str path) -> Tensor',
)
torch.library.define(
    'aia_mmaction::attention_backward',
    f'(Tensor grad, Tensor x, Tensor? host_norm, {_PARAMETERS}, '
    f'{_SPECIFICATION}, str path, Tensor volumes, Tensor argmax) '
    '-> (Tensor, Tensor, Tensor, Tensor)',
)


def attention(
    x: Tensor, parameters: Parameters, spec: Specification, backward: bool, path: str
) -> Tuple[Tensor, Tensor]:
    """A whole attention layer, differentiable.

    Args:
        x (Tensor): ``[N, C, T, H, W]``, or ``[N * T, C, H, W]`` with
            ``T = num_segments``.
        parameters (Parameters): Of its gates.
        spec (Specification): What to compute.
        backward (bool): Whether there will be a backward pass.
        path (str): The module that computes it.

    Returns:
        tuple[Tensor, Tensor]: The output, like ``x``, and the statistics that
        the norms used, ``[G, 2]``.
    """
    arguments = (x, *parameters, *spec, backward, path)
    if _is_plain(x):
        compute = _Attention.apply if backward else _attention
    else:
        compute = torch.ops.aia_mmaction.attention.default
    out, stats, *_ = compute(*arguments)
    return out, stats


def attention_inplace(
    x: Tensor, parameters: Parameters, spec: Specification, path: str
) -> Tensor:
    """:func:`attention` written over its input, for no backward pass.

    Returns:
        Tensor: The statistics that the norms used.
    """
    arguments = (x, *parameters, *spec, path)
    if not _is_plain(x):
        return cast(Tensor, torch.ops.aia_mmaction.attention_.default(*arguments))
    stats = _attention_inplace(*arguments)
    if hasattr(torch.autograd.graph, 'increment_version') and not x.is_inference():
        # As for every change in place, autograd is to know of it.
        torch.autograd.graph.increment_version(x)
    return stats


def _is_plain(x: Tensor) -> bool:
    """Whether nobody needs to see an operator, whose call costs 0.1 ms more."""
    return type(x) is Tensor and not is_compiling()


def _attention(x: Tensor, *arguments: Any) -> Tuple[Tensor, ...]:
    parameters, spec, (backward, path) = _read(arguments)
    with _autocast_off(x):
        out, stats, saved = _implementation(path).forward(
            to_clips(x, spec.num_segments), parameters, spec, backward
        )
    return (_as_promised(from_clips(out, x), x), stats, *saved)


@torch.library.register_fake('aia_mmaction::attention')
def _attention_fake(x: Tensor, *arguments: Any) -> Tuple[Tensor, ...]:
    parameters, spec, (backward, path) = _read(arguments)
    clips = to_clips(x, spec.num_segments)
    saved = _implementation(path).new_saved(clips, spec, backward)
    return torch.empty_like(x), _new_stats(x, parameters), *saved


def _attention_inplace(x: Tensor, *arguments: Any) -> Tensor:
    parameters, spec, (path,) = _read(arguments)
    with _autocast_off(x):
        stats = _implementation(path).forward_inplace(
            to_clips(x, spec.num_segments), parameters, spec
        )
    return cast(Tensor, stats)


@torch.library.register_fake('aia_mmaction::attention_')
def _attention_inplace_fake(x: Tensor, *arguments: Any) -> Tensor:
    parameters, _, _ = _read(arguments)
    return _new_stats(x, parameters)


def _attention_backward(
    grad: Tensor, x: Tensor, host_norm: Optional[Tensor], *arguments: Any
) -> Tuple[Tensor, ...]:
    parameters, spec, (path, *saved) = _read(arguments)
    with _autocast_off(x):
        grad_x, *grads = _implementation(path).backward(
            to_clips(grad, spec.num_segments),
            to_clips(x, spec.num_segments),
            host_norm,
            parameters,
            spec,
            Saved(*saved),
        )
    return (_as_promised(from_clips(grad_x, x), x), *grads)


@torch.library.register_fake('aia_mmaction::attention_backward')
def _attention_backward_fake(
    grad: Tensor, x: Tensor, host_norm: Optional[Tensor], *arguments: Any
) -> Tuple[Tensor, ...]:
    return tuple(torch.empty_like(t) for t in (x, *arguments[:3]))


for _name, _function in (
    ('attention', _attention),
    ('attention_', _attention_inplace),
    ('attention_backward', _attention_backward),
):
    torch.library.impl(f'aia_mmaction::{_name}', 'default', _function)


def _setup_context(ctx: Any, inputs: Tuple[Any, ...], output: Tuple[Any, ...]) -> None:
    x, *arguments = inputs
    parameters, ctx.spec, (_, ctx.path) = _read(arguments)
    ctx.mark_non_differentiable(*output[1:])
    # PyTorch would make zeros for the gradients of these.
    ctx.set_materialize_grads(False)
    tensors, ctx.input = save_input(x)
    # Nothing but save_for_backward lets go of a tensor when the backward pass
    # is over.
    ctx.save_for_backward(*parameters[:3], *output[1:], *tensors)


def _backward(
    ctx: Any, grad: Optional[Tensor], *_: Any
) -> Tuple[Optional[Tensor], ...]:
    without = [None for _ in ('stats', *ctx.spec, 'backward', 'path')]
    if grad is None:  # of a function behind that has none
        return (None, None, None, None, *without)
    weight, scale, shift, stats, volumes, argmax, *x = ctx.saved_tensors
    parameters = Parameters(weight, scale, shift, stats)
    grads: Sequence[Optional[Tensor]]
    if torch.is_grad_enabled():
        # Somebody is to differentiate these gradients, which the reference
        # can do.
        x = ctx.input.differentiable(x)
        grads = _differentiable_backward(grad, x, parameters, ctx.spec)
    else:
        plain = _is_plain(grad)
        operator = torch.ops.aia_mmaction.attention_backward.default
        grads = (_attention_backward if plain else operator)(
            grad,
            *ctx.input.host_norm(x),
            *parameters,
            *ctx.spec,
            ctx.path,
            volumes,
            argmax,
        )
    return (*grads, *without)


torch.library.register_autograd(
    'aia_mmaction::attention', _backward, setup_context=_setup_context
)


class _Attention(torch.autograd.Function):
    """The operator without PyTorch's dispatcher."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *arguments: Any) -> Tuple[Tensor, ...]:
        output = _attention(x, *arguments)
        # Not as a method, with which every call looks at the signature: 0.1 ms
        _setup_context(ctx, (x, *arguments), output)
        return output

    backward = staticmethod(_backward)


def _differentiable_backward(
    grad: Tensor, x: Tensor, parameters: Parameters, spec: Specification
) -> List[Optional[Tensor]]:
    if spec.group:
        raise NotImplementedError(
            'expected no second derivative through the statistics of several '
            'processes (SyncBN). Use BN, or set norm_eval=True.'
        )
    inputs = x, *parameters[:3]
    clips = to_clips(x, spec.num_segments)
    out = reference.attention(clips, spec.axes, unpack(parameters, spec))
    if spec.relu:
        out = out.relu()
    wanted = [t for t in inputs if t.requires_grad]
    grad = to_clips(grad, spec.num_segments)
    grads = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
    return [next(grads) if t.requires_grad else None for t in inputs]


def _read(
    arguments: Any,
) -> Tuple[Parameters, Specification, Tuple[Any, ...]]:
    """What the arguments of an operator say, and those behind them."""
    n = len(Parameters._fields)
    m = n + len(Specification._fields)
    return (
        Parameters(*arguments[:n]),
        Specification(*arguments[n:m]),
        tuple(arguments[m:]),
    )


def _new_stats(x: Tensor, parameters: Parameters) -> Tensor:
    return x.new_empty(len(parameters.weight), 2, dtype=float_type(x))


def _implementation(path: str) -> Any:
    return import_module(f'{__package__}.{path}')


def _autocast_off(x: Tensor) -> 'AbstractContextManager[None]':
    # Implementations choose their precision themselves.
    if not torch.is_autocast_enabled(x.device.type):
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def _as_promised(x: Tensor, like: Tensor) -> Tensor:
    """With the strides of the fakes, and not a view."""
    promised = torch.empty_like(like).stride()
    if x.stride() != promised:
        return x.new_empty_strided(x.shape, promised).copy_(x)
    # An output of an operator must not be a view, or the activation after it
    # could not work in place: the same memory as a tensor of its own.
    return x.new_empty(0).set_(
        x.untyped_storage(), x.storage_offset(), x.shape, x.stride()
    )
