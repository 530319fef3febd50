"""Attention in Attention (CinST, STinC) for MMAction2.

Importing this package checks versions, repairs what is broken in the stack
(:mod:`aia_mmaction.repairs`) and registers everything in MMAction2's
registries.
"""

import sys
from types import FrameType
from typing import Any, Optional

from .version import __version__


def _imported_for_the_doctor() -> bool:
    """Whether this is ``python -m aia_mmaction.doctor``.

    Python imports a package before a module of it that it is to run, and the
    doctor must run where the import below would fail.
    """
    frame: Optional[FrameType] = sys._getframe()
    while frame is not None:
        if (
            frame.f_globals.get('__name__') == 'runpy'
            and frame.f_locals.get('mod_name') == f'{__name__}.doctor'
        ):
            return True
        frame = frame.f_back
    return False


if not _imported_for_the_doctor():
    from .repairs.requirements import check_requirements

    check_requirements()

    from .repairs import apply_repairs, log_doubts

    log_doubts()
    apply_repairs()

    from .backbones import (
        AIAC2D,
        AIAC3D,
        AIAX3D,
        AIAMobileNetV2,
        AIAMobileNetV2TSM,
        AIAMobileOneTSM,
        AIAResNet,
        AIAResNet2Plus1d,
        AIAResNet3d,
        AIAResNet3dCSN,
        AIAResNet3dSlowFast,
        AIAResNet3dSlowOnly,
        AIAResNetTIN,
        AIAResNetTSM,
        AIATANet,
    )
    from .datasets import (
        BenchmarkRawframeDataset,
        BenchmarkVideoDataset,
        FlipByLabelName,
        ReverseFrames,
    )
    from .hooks import ChannelsLastHook, GateMonitorHook
    from .layers import (
        ChannelContext,
        CinST,
        ParallelAttention,
        SpatioTemporalContext,
        STinC,
        TimmAttention,
    )
    from .necks import AIANeck
    from .ops import impl
    from .optimizers import AIAOptimWrapperConstructor
    from .plugins import insert_plugins
    from .recognizers import AIARecognizer2D
    from .utils.moved import know_old_names, moved_name

    know_old_names()

    __all__ = [
        'AIAC2D',
        'AIAC3D',
        'AIAMobileNetV2',
        'AIAMobileNetV2TSM',
        'AIAMobileOneTSM',
        'AIANeck',
        'AIAOptimWrapperConstructor',
        'AIARecognizer2D',
        'AIAResNet',
        'AIAResNet2Plus1d',
        'AIAResNet3d',
        'AIAResNet3dCSN',
        'AIAResNet3dSlowFast',
        'AIAResNet3dSlowOnly',
        'AIAResNetTIN',
        'AIAResNetTSM',
        'AIATANet',
        'AIAX3D',
        'ChannelContext',
        'ChannelsLastHook',
        'CinST',
        'FlipByLabelName',
        'GateMonitorHook',
        'BenchmarkRawframeDataset',
        'BenchmarkVideoDataset',
        'ParallelAttention',
        'ReverseFrames',
        'STinC',
        'SpatioTemporalContext',
        'TimmAttention',
        '__version__',
        'impl',
        'insert_plugins',
    ]

    def __getattr__(name: str) -> Any:
        return moved_name(__name__, name)
