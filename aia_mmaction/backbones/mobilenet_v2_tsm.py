from mmaction.models.backbones.mobilenet_v2_tsm import MobileNetV2TSM
from mmaction.registry import MODELS

from .base import AIABackbone


@MODELS.register_module()
class AIAMobileNetV2TSM(AIABackbone, MobileNetV2TSM):
    """MMAction2's ``MobileNetV2TSM`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``MobileNetV2TSM``.
    """
