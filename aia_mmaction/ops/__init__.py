"""Functions that compute the attention; nothing here imports OpenMMLab."""

import torch

from .clips import from_clips, to_clips
from .dispatch import choose, has_hooks, impl, requested_impl, uses_batch_stats
from .reference import (
    AXES,
    channel_context,
    cinst,
    context_gate,
    context_pool,
    spatiotemporal_context,
    stinc,
)

if hasattr(torch.library, 'custom_op'):  # torch >= 2.4
    from .library import attention, attention_

    is_compiling = torch.compiler.is_compiling
else:
    # `choose` always takes the reference.
    attention = attention_ = None  # type: ignore[assignment]
    is_compiling = torch._dynamo.is_compiling

__all__ = [
    'AXES',
    'attention',
    'attention_',
    'channel_context',
    'choose',
    'cinst',
    'context_gate',
    'context_pool',
    'from_clips',
    'has_hooks',
    'impl',
    'is_compiling',
    'requested_impl',
    'spatiotemporal_context',
    'stinc',
    'to_clips',
    'uses_batch_stats',
]
