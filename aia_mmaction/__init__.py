"""Attention in Attention (CinST, STinC) for MMAction2.

Importing this package checks versions, repairs what is broken in the stack
(:mod:`aia_mmaction.compat`) and registers everything in MMAction2's
registries.
"""
import sys

from .version import __version__

# The package is imported before a module of it that is run with `python -m`,
# with this argv. The doctor must run where an import would fail.
if getattr(sys, 'argv', [])[:1] != ['-m']:
    from .requirements import check_requirements
    check_requirements()

    from .compat import apply_repairs
    apply_repairs()

    from .backbones import (AIAResNet, AIAResNet2Plus1d, AIAResNetTSM,
                            insert_plugins)
    from .datasets import GuidedRawframeDataset, GuidedVideoDataset
    from .layers import (ChannelContext, CinST, ParallelAttention,
                         SpatioTemporalContext, STinC)

    __all__ = [
        'AIAResNet', 'AIAResNet2Plus1d', 'AIAResNetTSM', 'ChannelContext',
        'CinST', 'GuidedRawframeDataset', 'GuidedVideoDataset',
        'ParallelAttention', 'STinC', 'SpatioTemporalContext', '__version__',
        'insert_plugins'
    ]
