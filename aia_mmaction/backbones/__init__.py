"""MMAction2's backbones with `plugins=`, registered in MODELS."""

from typing import Any

from aia_mmaction.utils.moved import moved_name

from .base import AIABackbone
from .mobileone_tsm import AIAMobileOneTSM
from .registered import (
    AIAC2D,
    AIAC3D,
    AIAX3D,
    AIAMobileNetV2,
    AIAMobileNetV2TSM,
    AIAResNet,
    AIAResNet2Plus1d,
    AIAResNet3d,
    AIAResNet3dCSN,
    AIAResNet3dSlowFast,
    AIAResNet3dSlowOnly,
    AIAResNetTIN,
    AIATANet,
)
from .resnet_tsm import AIAResNetTSM

__all__ = [
    'AIABackbone',
    'AIAC2D',
    'AIAC3D',
    'AIAMobileNetV2',
    'AIAMobileNetV2TSM',
    'AIAMobileOneTSM',
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
]


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name)
