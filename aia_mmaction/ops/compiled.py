"""The functions of :mod:`.fused`, compiled by Inductor for each shape.

One compilation serves every layer that sees the same shapes, whatever the
number of blocks, because weights are arguments.
"""
from functools import lru_cache
from types import FunctionType
from typing import Any, Callable, Tuple

import torch
from torch import Tensor

from . import fused


def forward(*args) -> Tuple[Tensor, Tensor]:
    """:func:`.fused.forward`, compiled."""
    return _compile(fused.forward, _key(args))(*args)


def backward(*args) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """:func:`.fused.backward`, compiled."""
    return _compile(fused.backward, _key(args))(*args)


def _key(args: tuple) -> Tuple[Any, ...]:
    return tuple((arg.shape, arg.stride(), arg.dtype,
                  arg.device) if isinstance(arg, Tensor) else arg
                 for arg in args)


@lru_cache(maxsize=None)
def _compile(function: Callable, key: Tuple[Any, ...]) -> Callable:
    # Dynamo counts the compilations of one code object and gives up at its
    # recompile limit, 8: so each shape gets a code object of its own.
    code = function.__code__
    code = code.replace(co_name=f'{code.co_name}_{hash(key):x}')
    copy = FunctionType(code, function.__globals__)
    return torch.compile(copy,
                         fullgraph=True,
                         dynamic=False,
                         options=_options())


def _options() -> dict:
    # The images of `_conv` have many small channels: channels_last, which
    # Inductor would make of them, leaves its own loops without vectors.
    options = {'layout_optimization': False}
    if torch.backends.cpu.get_cpu_capability() == 'AVX512':
        # With vectors of 16, Inductor starts threads inside the loop over
        # pixels where an image is narrower than 16, as that of layer3 is.
        options['cpp.simdlen'] = 256
    return options
