"""Attention layers: modules that own weights, registered in MODELS."""

from .attention import (
    ChannelContext,
    CinST,
    ContextAttention,
    SpatioTemporalContext,
    STinC,
)
from .context_gate import ContextGate
from .parallel import ParallelAttention, build_layer, parameters_of
from .timm_attention import TimmAttention

__all__ = [
    'ChannelContext',
    'CinST',
    'ContextAttention',
    'ContextGate',
    'ParallelAttention',
    'SpatioTemporalContext',
    'STinC',
    'TimmAttention',
    'build_layer',
    'parameters_of',
]
