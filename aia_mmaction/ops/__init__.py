"""Functions that compute the attention; nothing here imports OpenMMLab."""

# It remembers which process imported it.
from . import process
from .dispatch import choose, has_hooks, impl, is_compiling, requested_impl
from .functional import attention
from .parameters import GateModule, read_gate
from .reference import AXES, LAYERS, GateAxes, context_gate

__all__ = [
    'AXES',
    'LAYERS',
    'GateAxes',
    'GateModule',
    'attention',
    'choose',
    'context_gate',
    'has_hooks',
    'impl',
    'is_compiling',
    'process',
    'read_gate',
    'requested_impl',
]
