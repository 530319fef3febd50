"""Functions that compute the attention; nothing here imports OpenMMLab."""
from .reference import (AXES, channel_context, cinst, context_gate,
                        context_pool, spatiotemporal_context, stinc)

__all__ = [
    'AXES', 'channel_context', 'cinst', 'context_gate', 'context_pool',
    'spatiotemporal_context', 'stinc'
]
