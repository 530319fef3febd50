"""The fast paths as operators of PyTorch.

``torch.compile`` and ``torch.export`` see one operator for a whole layer and
need not look into it. Its backward pass is a second operator. From the forward
pass it needs the input (see :mod:`.recompute`), the weights, and what the path
keeps that is small.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Callable, Dict, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import reference
from .clips import to_clips
from .fused import place_type
from .recompute import keep

Grads = Tuple[Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op('aia_mmaction::attention', mutates_args=())
def attention(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    stats: Optional[Tensor],
    eps: float,
    inner: str,
    outer: str,
    num_segments: int,
    relu: bool,
    keep: bool,
    path: str,
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """A whole attention layer.

    Args:
        x (Tensor): ``[N, C, T, H, W]``, or ``[N * T, C, H, W]`` with
            ``T = num_segments``.
        num_segments (int): Frames per clip of 4-D input; any for 5-D.
        path (str): The module that computes it: ``'fused'``, ``'compiled'``
            or ``'triton'``.

    For the others, and what is returned, see :func:`.fused.forward`.
    """
    with _autocast_off(x):
        out, *others = _implementation(path).forward(
            x, weight, scale, shift, stats, eps, inner, outer, num_segments, relu, keep
        )
    return (_as_promised(out, x), *others)


@attention.register_fake
def _(
    x, weight, scale, shift, stats, eps, inner, outer, num_segments, relu, keep, path
):
    clips = to_clips(x, num_segments)
    size = 0
    if keep and path != 'triton':
        size = sum(
            clips.numel() // clips.shape[reference.AXES[axis][0]]
            for axis in inner + outer
        )
    dtype = torch.promote_types(x.dtype, torch.float32)
    kept = x.new_empty(3 * size, dtype=dtype)
    places = x.new_empty(size, dtype=place_type(clips))
    stats = x.new_empty(len(weight), 2, dtype=dtype)
    return torch.empty_like(x), stats, kept, places


# Not a custom_op, which costs 0.1 ms more a call.
torch.library.define(
    'aia_mmaction::attention_',
    '(Tensor(a!) x, Tensor weight, Tensor scale, Tensor shift, Tensor? stats, '
    'float eps, str inner, str outer, SymInt num_segments, bool relu, '
    'str path) -> Tensor',
)


@torch.library.impl('aia_mmaction::attention_', 'default')
def _(x, *args):
    *args, path = args
    with _autocast_off(x):
        return _implementation(path).forward_inplace(x, *args)


@torch.library.register_fake('aia_mmaction::attention_')
def _(x, weight, *_):
    return x.new_empty(
        len(weight), 2, dtype=torch.promote_types(x.dtype, torch.float32)
    )


def attention_(*args) -> Tensor:
    """:func:`attention` written over its input, for no backward pass.

    Takes the same arguments but ``keep``; see :func:`.fused.forward_inplace`.
    """
    return torch.ops.aia_mmaction.attention_.default(*args)


@torch.library.custom_op('aia_mmaction::attention_backward', mutates_args=())
def attention_backward(
    grad: Tensor,
    x: Tensor,
    affine: Optional[Tensor],
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    stats: Tensor,
    kept: Tensor,
    places: Tensor,
    batch_stats: bool,
    eps: float,
    inner: str,
    outer: str,
    num_segments: int,
    relu: bool,
    path: str,
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`attention`; see :func:`.fused.backward`."""
    with _autocast_off(x):
        grad_x, *grads = _implementation(path).backward(
            grad,
            x,
            affine,
            weight,
            scale,
            shift,
            stats,
            kept,
            places,
            batch_stats,
            eps,
            inner,
            outer,
            num_segments,
            relu,
        )
    return (_as_promised(grad_x, x), *grads)


@attention_backward.register_fake
def _(
    grad,
    x,
    affine,
    weight,
    scale,
    shift,
    stats,
    kept,
    places,
    batch_stats,
    eps,
    inner,
    outer,
    num_segments,
    relu,
    path,
):
    return tuple(torch.empty_like(t) for t in (x, weight, scale, shift))


def _setup_context(ctx, inputs, output) -> None:
    x, weight, scale, shift, stats, *options, _, path = inputs
    ctx.options = (*options, path)
    ctx.batch_stats = stats is None
    ctx.mark_non_differentiable(*output[1:])
    tensors, ctx.input = keep(x)
    # Nothing but save_for_backward lets go of a tensor when the backward pass
    # is over.
    ctx.save_for_backward(weight, scale, shift, *output[1:], *tensors)


def _backward(ctx, grad: Tensor, *_) -> Tuple[Optional[Tensor], ...]:
    weight, scale, shift, stats, kept, places, *x = ctx.saved_tensors
    if torch.is_grad_enabled():
        # Somebody is to differentiate these gradients, which the reference
        # can do.
        grads = _differentiable_backward(
            grad,
            ctx.input.differentiable(x),
            weight,
            scale,
            shift,
            stats,
            ctx.batch_stats,
            *ctx.options,
        )
    else:
        grads = attention_backward(
            grad,
            *ctx.input.affine(x),
            weight,
            scale,
            shift,
            stats,
            kept,
            places,
            ctx.batch_stats,
            *ctx.options,
        )
    return (*grads, *[None] * 8)


attention.register_autograd(_backward, setup_context=_setup_context)


def _differentiable_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    stats: Tensor,
    batch_stats: bool,
    eps: float,
    inner: str,
    outer: str,
    num_segments: int,
    relu: bool,
    path: str,
) -> Tuple[Optional[Tensor], ...]:
    inputs = x, weight, scale, shift
    out = reference_attention(
        to_clips(x, num_segments),
        weight,
        scale,
        shift,
        None if batch_stats else stats,
        eps,
        inner,
        outer,
    )
    out = out.relu() if relu else out
    wanted = [t for t in inputs if t.requires_grad]
    grads = iter(
        torch.autograd.grad(
            out, wanted, to_clips(grad, num_segments), create_graph=True
        )
    )
    return tuple(next(grads) if t.requires_grad else None for t in inputs)


REFERENCE: Dict[Tuple[str, str], Callable] = {
    ('', 'C'): reference.channel_context,
    ('', 'THW'): reference.spatiotemporal_context,
    ('C', 'THW'): reference.cinst,
    ('THW', 'C'): reference.stinc,
}


def reference_attention(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    stats: Optional[Tensor],
    eps: float,
    inner: str,
    outer: str,
) -> Tensor:
    """The output of :func:`.fused.forward`, from :mod:`.reference`."""

    def gate(i: int, axis: str) -> Callable[[Tensor], Tensor]:
        conv = partial(F.conv3d, weight=weight[i : i + 1], padding=1)
        mean, var = (None, None) if stats is None else stats[i].split(1)
        norm = partial(
            F.batch_norm,
            running_mean=mean,
            running_var=var,
            weight=scale[i : i + 1],
            bias=shift[i : i + 1],
            training=stats is None,
            eps=eps,
        )
        return partial(reference.context_gate, axis=axis, conv=conv, norm=norm)

    gates = {axis: gate(i, axis) for i, axis in enumerate(inner + outer)}
    return REFERENCE[inner, outer](
        x, *(gates[axis] for axis in reference.AXES if axis in gates)
    )


def _implementation(path: str) -> ModuleType:
    return import_module(f'{__package__}.{path}')


def _autocast_off(x: Tensor) -> AbstractContextManager:
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
