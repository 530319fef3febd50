from mmaction.models.backbones.resnet3d import ResNet3d
from mmaction.registry import MODELS

from .base import AIABackbone


@MODELS.register_module()
class AIAResNet3d(AIABackbone, ResNet3d):
    """MMAction2's ``ResNet3d`` (I3D) with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNet3d``.
    """
