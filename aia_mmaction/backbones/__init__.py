"""MMAction2's backbones with `plugins=`, registered in MODELS."""
from .base import AIABackbone
from .plugged_activation import attention_layers
from .plugins import insert_plugins
from .resnet import AIAResNet
from .resnet2plus1d import AIAResNet2Plus1d
from .resnet_tsm import AIAResNetTSM

__all__ = [
    'AIABackbone', 'AIAResNet', 'AIAResNet2Plus1d', 'AIAResNetTSM',
    'attention_layers', 'insert_plugins'
]
