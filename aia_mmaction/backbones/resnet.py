from mmaction.models.backbones.resnet import ResNet
from mmaction.registry import MODELS

from .base import AIABackbone


@MODELS.register_module()
class AIAResNet(AIABackbone, ResNet):
    """MMAction2's ``ResNet`` (TSN, C2D) with attention.

    Args:
        num_segments (int): Frames per clip, ``num_clips`` of the pipeline.
            Defaults to 8.
        plugins (Sequence[dict], optional): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNet``.
    """

    def __init__(self, *args, num_segments: int = 8, **kwargs) -> None:
        # nn.Module takes plain attributes before its own __init__.
        self.num_segments = num_segments
        super().__init__(*args, **kwargs)
