from mmaction.models.backbones.resnet3d_slowonly import ResNet3dSlowOnly
from mmaction.registry import MODELS

from .base import AIABackbone


@MODELS.register_module()
class AIAResNet3dSlowOnly(AIABackbone, ResNet3dSlowOnly):
    """MMAction2's ``ResNet3dSlowOnly`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNet3dSlowOnly``.
    """
