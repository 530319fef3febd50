from mmaction.models.backbones.c2d import C2D
from mmaction.registry import MODELS

from .base import AIAFrameBackbone


@MODELS.register_module()
class AIAC2D(AIAFrameBackbone, C2D):
    """MMAction2's ``C2D`` with attention.

    Args:
        num_segments (int): Frames per clip. Defaults to 8.
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``C2D``.
    """
