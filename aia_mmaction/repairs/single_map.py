"""A backbone with one map before a neck, which MMAction2 takes for several."""

from functools import wraps

from .repair import Repair


def _is_split() -> bool:
    import torch
    from mmaction.models import Recognizer2D

    given = []

    class Recognizer:
        backbone_from, with_neck, test_cfg = 'mmaction2', True, None

        @staticmethod
        def backbone(images):
            return images

        @staticmethod
        def neck(maps, **kwargs):
            given.append(maps)
            return torch.zeros(1, 2, 1, 1, 1), {}

    # One map of two frames: [N, T, C, H, W]
    try:
        Recognizer2D.extract_feat(Recognizer(), torch.zeros(1, 2, 2, 1, 1))
    except ValueError:
        return False  # refused
    return isinstance(given[0], (list, tuple))


def _refuse_single_maps() -> None:
    import torch
    from mmaction.models import Recognizer2D

    extract_feat = Recognizer2D.extract_feat

    def refuse(backbone, args, output):
        if isinstance(output, torch.Tensor):
            raise ValueError(
                'Recognizer2D: expected two or more maps of the backbone for '
                f'the neck, got one of shape {tuple(output.shape)}. Give the '
                'backbone two out_indices, e.g. out_indices=(2, 3).'
            )

    @wraps(extract_feat)
    def repaired(self, inputs, stage='neck', *args, **kwargs):
        if not self.with_neck or stage == 'backbone':
            return extract_feat(self, inputs, stage, *args, **kwargs)
        if self.backbone_from in ('torchvision', 'timm'):
            raise ValueError(
                'Recognizer2D: expected a backbone of MMAction2 before a neck, got one '
                f'of {self.backbone_from}, whose map is averaged before the neck sees '
                'it. Give a convolutional network plugins by AIARecognizer2D; for a '
                'Swin take SwinTransformer3D in a Recognizer3D.'
            )
        hook = self.backbone.register_forward_hook(refuse)
        try:
            return extract_feat(self, inputs, stage, *args, **kwargs)
        finally:
            hook.remove()

    Recognizer2D.extract_feat = repaired


REPAIR = Repair(
    symptom='Recognizer2D with a neck takes the single map of a '
    'backbone for a list along the batch, and fails far from the cause',
    affected='mmaction2 1.2.0',
    is_broken=_is_split,
    mend=_refuse_single_maps,
)
