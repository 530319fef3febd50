from mmaction.models.backbones.tanet import TANet
from mmaction.registry import MODELS

from .base import AIABackbone


@MODELS.register_module()
class AIATANet(AIABackbone, TANet):
    """MMAction2's ``TANet`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``TANet``.
    """
