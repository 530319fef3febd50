from mmaction.models.backbones.resnet_tin import ResNetTIN
from mmaction.registry import MODELS

from .base import AIABackbone


@MODELS.register_module()
class AIAResNetTIN(AIABackbone, ResNetTIN):
    """MMAction2's ``ResNetTIN`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNetTIN``.
    """
