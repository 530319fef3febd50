from typing import Sequence, Union

from mmaction.models import Recognizer2D
from mmaction.registry import MODELS

from aia_mmaction.plugins import attention_layers, insert_plugins


@MODELS.register_module()
class AIARecognizer2D(Recognizer2D):
    """MMAction2's ``Recognizer2D`` that puts attention into its backbone.

    For image backbones that a ``Recognizer2D`` takes from other libraries,
    such as ``backbone=dict(type='torchvision.resnet50')``, ``'timm.resnet50'``
    or ``'mmpretrain.ResNeXt'``, and that cannot have ``plugins`` of their own.

    Args:
        plugins (Sequence[dict] | str): See
            :func:`~aia_mmaction.insert_plugins`. Defaults to ``'CinST'``.
        num_segments (int): Frames per clip, ``num_clips`` of the pipeline.
            Defaults to 8.
        **kwargs: Arguments of ``Recognizer2D``.

    Raises:
        ValueError: If the backbone has attention already.
    """

    def __init__(
        self,
        plugins: Union[str, Sequence[dict]] = 'CinST',
        num_segments: int = 8,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if attention_layers(self.backbone):
            raise ValueError(
                'AIARecognizer2D: expected a backbone without attention, got '
                f'{type(self.backbone).__name__} with plugins of its own. Use '
                'Recognizer2D with it.'
            )
        insert_plugins(self, plugins, num_segments)
