"""Which path computes an attention layer, and why.

``'auto'`` takes the first path of :data:`PATHS` that can run and is worth it;
a path asked for by name runs or raises.
"""

import os
import warnings
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Iterator, List, Mapping, Optional, Tuple

import torch
from torch import Tensor, nn

from . import self_check
from .clips import to_clips
from .parameters import GateModule, look_up
from .reference import GateAxes
from .specification import KERNEL_GATES, MAX_SIZE

IMPL_VARIABLE = 'AIA_MMACTION_IMPL'
# In the order in which 'auto' tries them
PATHS = ('triton', 'numba', 'fused', 'reference')

# The only convolution that the fast paths compute
_CONV = dict(
    in_channels=2,
    out_channels=1,
    kernel_size=(3, 3, 3),
    stride=(1, 1, 1),
    padding=(1, 1, 1),
    dilation=(1, 1, 1),
    groups=1,
    padding_mode='zeros',
)
_HAS_TRITON = find_spec('triton') is not None
_TRITON_DEVICES = ('cuda',)  # on which 'auto' takes it
_INTERPRETS_TRITON = os.environ.get('TRITON_INTERPRET') == '1'
_HAS_NUMBA = find_spec('numba') is not None


_forced: Optional[str] = None  # by the innermost `with impl(...)`


@contextmanager
def impl(name: str) -> Iterator[None]:
    """Have every layer of this process take one path while a block lasts.

    It goes before ``impl`` of the layers and before the environment variable.

    Args:
        name (str): ``'auto'`` or a path's name.

    Raises:
        ValueError: If there is no such path. A layer that cannot take it raises
            a RuntimeError when it is called.
    """
    global _forced
    if name not in ('auto', *PATHS):
        raise ValueError(f'impl: expected auto, {", ".join(PATHS)}, got {name!r}.')
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def requested_impl(impl: str) -> str:
    """``impl``, or what the environment variable asks of every layer.

    Raises:
        ValueError: If there is no such path.
    """
    name = os.environ.get(IMPL_VARIABLE) or impl
    if name == 'compiled':
        warnings.warn(
            "impl='compiled' went away in 0.2: 'auto', which is faster on CPUs with "
            'numba and compiles nothing for each shape, takes its place.',
            FutureWarning,
            stacklevel=3,
        )
        return 'auto'
    if name not in ('auto', *PATHS):
        source = IMPL_VARIABLE if os.environ.get(IMPL_VARIABLE) else 'impl'
        raise ValueError(f'{source}: expected auto, {", ".join(PATHS)}, got {name!r}.')
    return name


def choose(
    impl: str,
    x: Tensor,
    axes: GateAxes,
    gates: Mapping[str, GateModule],
    num_segments: Optional[int] = None,
) -> Tuple[str, List[str]]:
    """The path for an input.

    Args:
        impl (str): ``'auto'`` or a path's name; :func:`impl` goes before it.
        x (Tensor): The layer's input, as in :func:`.functional.attention`, and
            so are the others.
        axes (GateAxes): The axes of its gates.
        gates (Mapping[str, GateModule]): Those of the axes.
        num_segments (int, optional): Frames per clip of 4-D input.

    Returns:
        tuple[str, list[str]]: The path, and why each one before it was
        refused, ``'name: reason'``.

    Raises:
        RuntimeError: If a path is asked for by name and cannot run.
    """
    impl = _forced or impl
    if impl == 'reference':
        return impl, []
    fast = _why_not_fast(to_clips(x, num_segments or 0), axes, gates)
    if impl != 'auto':
        reason = fast or _why_not(impl, x, axes)
        if reason is None:
            return impl, []
        raise RuntimeError(
            f"impl='{impl}' cannot run: {reason}. Use impl='auto', which "
            'takes the fastest path that can.'
        )
    if fast is None and _is_exporting():
        fast = 'an exported model is to need PyTorch alone'
    if fast is not None:
        return 'reference', [f'{", ".join(PATHS[:-1])}: {fast}']
    refused: List[str] = []
    for path in PATHS[:-1]:
        reason = _why_not(path, x, axes) or _why_not_automatic(path, x)
        if reason is None:
            return path, refused
        refused.append(f'{path}: {reason}')
    raise AssertionError('fused has nothing of its own to refuse')


def _why_not(path: str, x: Tensor, axes: GateAxes) -> Optional[str]:
    """Why one path cannot take an input that a fast path can."""
    if path == 'triton':
        if not _HAS_TRITON:
            return 'Triton is not installed'
        if x.device.type != 'cuda' and not _INTERPRETS_TRITON:
            return f'x is on {x.device.type}, and Triton is for CUDA'
    if path == 'numba':
        if not _HAS_NUMBA:
            return 'numba is not installed: pip install numba'
        if x.device.type != 'cpu':
            return f'x is on {x.device.type}, and numba is for CPUs'
        if max(x.shape) > MAX_SIZE:
            return f'x has an axis of more than {MAX_SIZE}'
    if path in ('triton', 'numba'):
        if x.dtype == torch.float64:
            return 'x is float64'
        if not set(axes) <= KERNEL_GATES:
            got = ' and '.join(filter(None, axes))
            return f'the kernels know C and THW gates, and not {got}'
    return None


def _why_not_fast(
    x: Tensor, axes: GateAxes, gates: Mapping[str, GateModule]
) -> Optional[str]:
    """Why none but the reference can take an input ``[N, C, T, H, W]``."""
    if not hasattr(torch.library, 'custom_op'):
        return f'it needs torch >= 2.4, got {torch.__version__}'
    if not torch.compiler.is_compiling():
        if torch.jit.is_tracing():
            return 'the model is being traced to TorchScript or ONNX'
        if _is_transformed():
            return 'torch.func and forward-mode differentiation need it'
    if x.numel() == 0:
        return 'x is empty'
    of_axes = [gates[axis] for axis in axes.all()]
    for gate in of_axes:
        reason = _why_not_gate(gate, x)
        if reason is not None:
            return reason
    if len({gate.uses_batch_stats for gate in of_axes}) > 1:
        return 'some norms are in training mode, some in evaluation mode'
    # What is not there costs an attribute of a module 2 us.
    if len({gate.norm.__dict__.get('process_group') for gate in of_axes}) > 1:
        return 'the norms differ in their process group'
    if len({gate.norm.eps for gate in of_axes}) > 1:
        return 'the norms differ in eps'
    if of_axes[0].uses_batch_stats and x.numel() == max(x.shape):
        return 'there is a single value to normalise'
    return None


def _why_not_gate(gate: GateModule, x: Tensor) -> Optional[str]:
    conv, norm = gate.conv, gate.norm
    if type(conv) is not nn.Conv3d:
        return f'the convolution is a {type(conv).__name__}'
    if look_up(conv, conv._parameters, 'bias') is not None:
        return 'the convolution has bias=True'
    changed = [k for k, v in _CONV.items() if getattr(conv, k) != v]
    if changed:
        got = ', '.join(f'{k}={getattr(conv, k)}' for k in changed)
        return f'the convolution has {got}'
    # MMCV's SyncBN is a class of its own that computes the same.
    is_sync = getattr(type(norm), 'forward', None) is nn.SyncBatchNorm.forward
    if type(norm) is not nn.BatchNorm3d and not is_sync:
        return f'the norm is a {type(norm).__name__}'
    if is_sync and norm.training and is_compiling():
        return 'a SyncBN in training is being compiled'
    if gate.scale is None:
        return 'the norm has no weight and bias'
    for module in (gate.gate, conv, norm):
        if has_hooks(module):
            return 'a gate has hooks'
    if x.dtype != gate.weight.dtype and not torch.is_autocast_enabled(x.device.type):
        return f'x is {x.dtype} and the weights are {gate.weight.dtype}'
    return None


def _why_not_automatic(path: str, x: Tensor) -> Optional[str]:
    """Why ``'auto'`` leaves out a path that can run."""
    if path == 'triton':
        if x.device.type not in _TRITON_DEVICES:
            return "Triton's interpreter is slow"
        return self_check.why_not(x)
    return None


def is_compiling() -> bool:
    """Whether ``torch.compile`` or ``torch.export`` traces this."""
    if hasattr(torch.compiler, 'is_compiling'):
        return torch.compiler.is_compiling()
    return torch._dynamo.is_compiling()  # torch < 2.2


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody wants to see what goes into or out of a module."""
    return bool(
        getattr(module, '_forward_hooks', True)
        or getattr(module, '_forward_pre_hooks', True)
        or getattr(module, '_backward_hooks', True)
        or getattr(module, '_backward_pre_hooks', True)
    )


def _is_transformed() -> bool:
    """Whether torch.func or forward-mode differentiation runs this."""
    functorch: Any = getattr(torch._C, '_functorch', None)
    level = getattr(torch.autograd.forward_ad, '_current_level', -1)
    # Where PyTorch does not tell, its operators refuse both themselves.
    return level >= 0 or (
        hasattr(functorch, 'peek_interpreter_stack')
        and functorch.peek_interpreter_stack() is not None
    )


def _is_exporting() -> bool:
    if hasattr(torch.compiler, 'is_exporting'):
        return torch.compiler.is_exporting()
    # torch < 2.7 can tell only where no Dynamo traces.
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


if hasattr(torch.compiler, 'is_exporting'):
    # Dynamo is to call it, and not to trace it: that of torch 2.7 takes
    # is_exporting for True in any graph. Set by torch.compiler.
    # assume_constant_result, too, which would load Dynamo here.
    _is_exporting._dynamo_marked_constant = True  # type: ignore[attr-defined]
