"""Testing with ``max_testing_views``, which asks modules for ``get``."""

from .repair import Repair


def _views_fail() -> bool:
    import torch
    from mmaction.models import Recognizer2D
    from mmengine.model import BaseModule

    class Backbone(BaseModule):
        def forward(self, x):
            return x

    class Recognizer:
        backbone, backbone_from, with_neck = Backbone(), 'mmaction2', False
        test_cfg = dict(max_testing_views=1)

    try:
        Recognizer2D.extract_feat(
            Recognizer(), torch.zeros(1, 1, 1, 1, 1), test_mode=True
        )
    except AttributeError:  # no get
        return True
    return False


def _give_modules_get() -> None:
    from mmengine.model import BaseModule

    def get(self, name: str, default=None):
        """What ``Recognizer2D`` asks its backbone for ``max_testing_views``."""
        return getattr(self, name, default)

    BaseModule.get = get


REPAIR = Repair(
    symptom='Recognizer2D calls backbone.get() when max_testing_views is '
    'set, which modules of MMEngine do not have',
    affected='mmaction2 1.2.0',
    is_broken=_views_fail,
    mend=_give_modules_get,
)
