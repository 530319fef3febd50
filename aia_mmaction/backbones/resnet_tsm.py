from mmaction.models.backbones.resnet_tsm import ResNetTSM
from mmaction.registry import MODELS

from .base import AIABackbone


@MODELS.register_module()
class AIAResNetTSM(AIABackbone, ResNetTSM):
    """MMAction2's ``ResNetTSM`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNetTSM``.
    """
