from mmaction.models.backbones.c3d import C3D
from mmaction.registry import MODELS

from .base import AIABackbone


@MODELS.register_module()
class AIAC3D(AIABackbone, C3D):
    """MMAction2's ``C3D`` with attention.

    Every convolution is a block of its own, in five stages.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``C3D``.
    """
