from mmaction.models.backbones.resnet import ResNet
from mmaction.registry import MODELS

from .base import AIAFrameBackbone


@MODELS.register_module()
class AIAResNet(AIAFrameBackbone, ResNet):
    """MMAction2's ``ResNet`` (TSN) with attention.

    Args:
        num_segments (int): Frames per clip. Defaults to 8.
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNet``.
    """
