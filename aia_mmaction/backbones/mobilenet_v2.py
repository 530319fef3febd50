from mmaction.models.backbones.mobilenet_v2 import MobileNetV2
from mmaction.registry import MODELS

from .base import AIAFrameBackbone


@MODELS.register_module()
class AIAMobileNetV2(AIAFrameBackbone, MobileNetV2):
    """MMAction2's ``MobileNetV2`` with attention.

    Args:
        num_segments (int): Frames per clip. Defaults to 8.
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``MobileNetV2``.
    """
