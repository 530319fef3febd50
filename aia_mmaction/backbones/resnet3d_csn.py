from mmaction.models.backbones.resnet3d_csn import ResNet3dCSN
from mmaction.registry import MODELS

from .base import AIABackbone


@MODELS.register_module()
class AIAResNet3dCSN(AIABackbone, ResNet3dCSN):
    """MMAction2's ``ResNet3dCSN`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNet3dCSN``.
    """
