from mmaction.models.backbones.resnet2plus1d import ResNet2Plus1d
from mmaction.registry import MODELS

from .base import AIABackbone


@MODELS.register_module()
class AIAResNet2Plus1d(AIABackbone, ResNet2Plus1d):
    """MMAction2's ``ResNet2Plus1d`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNet2Plus1d``.
    """
