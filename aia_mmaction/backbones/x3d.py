from mmaction.models.backbones.x3d import X3D
from mmaction.registry import MODELS

from .base import AIABackbone


@MODELS.register_module()
class AIAX3D(AIABackbone, X3D):
    """MMAction2's ``X3D`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``X3D``.
    """
