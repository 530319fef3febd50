"""The functions of :mod:`.fused`, compiled by Inductor for each shape.

One compilation serves every layer that sees the same shapes, whatever the
number of blocks, because weights are arguments.
"""

from functools import lru_cache
from types import FunctionType
from typing import Any, Callable, Dict, Tuple, TypeVar, cast

import torch
from torch import Tensor

from . import fused
from .parameters import Saved

Result = TypeVar('Result')


def forward(x: Tensor, *args: Any) -> Tuple[Tensor, Tensor, Saved]:
    """:func:`.fused.forward`, compiled."""
    return _call(fused.forward, x, *args)


def forward_inplace(x: Tensor, *args: Any) -> Tensor:
    """:func:`.fused.forward_inplace`, compiled."""
    return _call(fused.forward_inplace, x, *args)


def backward(grad: Tensor, *args: Any) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """:func:`.fused.backward`, compiled."""
    return _call(fused.backward, grad, *args)


def _call(function: Callable[..., Result], x: Tensor, *args: Any) -> Result:
    narrow = x.shape[-1] < fused.FLOATS_IN_VECTOR
    key = _key((x, *args))
    compiled = _compile(function, narrow, torch.get_num_threads(), key)
    return cast(Result, compiled(x, *args))


def _key(value: Any) -> Any:
    """All on which the compiled code depends, and so in place of guards."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, tuple):
        return tuple(_key(each) for each in value)
    return value


@lru_cache(maxsize=None)
def _compile(
    function: Callable[..., Any], narrow: bool, *key: Any
) -> Callable[..., Any]:
    # Dynamo counts the compilations of one code object and gives up at its
    # recompile limit, 8: so each shape gets a code object of its own.
    code = function.__code__
    code = code.replace(co_name=f'{code.co_name}_{hash(key):x}')
    copy = FunctionType(code, function.__globals__)
    return torch.compile(copy, fullgraph=True, dynamic=False, options=_options(narrow))


def _options(narrow: bool) -> Dict[str, Any]:
    # The images of `conv_weight_grad` have many small channels: channels_last,
    # which Inductor would make of them, leaves its own loops without vectors.
    options: Dict[str, Any] = {'layout_optimization': False}
    avx512 = torch.backends.cpu.get_cpu_capability() == 'AVX512'
    if avx512 and narrow and _can_be_set('cpp.simdlen', 256):
        # Inductor would start threads inside the loop over the pixels of an
        # image that is narrower than a vector.
        options['cpp.simdlen'] = 256
    if hasattr(torch.compiler, 'skip_all_guards_unsafe'):  # torch >= 2.8
        options['guard_filter_fn'] = torch.compiler.skip_all_guards_unsafe
    return options


def _can_be_set(option: str, value: Any) -> bool:
    # Inductor of torch < 2.5 takes some for which the default is None as None
    # only.
    try:
        torch.compile(abs, fullgraph=True, dynamic=False, options={option: value})
    except RuntimeError:
        return False
    return True
