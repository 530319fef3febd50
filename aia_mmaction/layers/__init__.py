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
from .recording import attention_modules, measure_gates, recorded_gates
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
    'attention_modules',
    'build_layer',
    'measure_gates',
    'parameters_of',
    'recorded_gates',
]
