"""MMAction2's backbones with `plugins=`, registered in MODELS."""

from .base import AIABackbone
from .c2d import AIAC2D
from .c3d import AIAC3D
from .insertion import insert_plugins
from .mobilenet_v2 import AIAMobileNetV2
from .mobilenet_v2_tsm import AIAMobileNetV2TSM
from .mobileone_tsm import AIAMobileOneTSM
from .paper_modules import PAPER_MODULES
from .places import attention_layers
from .resnet import AIAResNet
from .resnet2plus1d import AIAResNet2Plus1d
from .resnet3d import AIAResNet3d
from .resnet3d_csn import AIAResNet3dCSN
from .resnet3d_slowfast import AIAResNet3dSlowFast
from .resnet3d_slowonly import AIAResNet3dSlowOnly
from .resnet_tin import AIAResNetTIN
from .resnet_tsm import AIAResNetTSM
from .tanet import AIATANet
from .x3d import AIAX3D

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
    'PAPER_MODULES',
    'attention_layers',
    'insert_plugins',
]
