from mmaction.models.backbones.resnet3d_slowfast import ResNet3dSlowFast
from mmaction.registry import MODELS

from .base import AIABackbone


@MODELS.register_module()
class AIAResNet3dSlowFast(AIABackbone, ResNet3dSlowFast):
    """MMAction2's ``ResNet3dSlowFast`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNet3dSlowFast``.
    """
