from types import SimpleNamespace

import pytest
from mmengine.config import Config
from torch import nn

from aia_mmaction.checks import CheckConfigHook


class Checked:
    """A run that has got as far as its first iteration."""

    def __init__(self, model=None, cfg=None, **datasets):
        loops = {
            f'{phase}_loop': SimpleNamespace(
                dataloader=SimpleNamespace(dataset=datasets.get(phase))
            )
            for phase in ('train', 'val', 'test')
        }
        self.runner = SimpleNamespace(
            model=model or nn.Identity(), cfg=Config(cfg or {}), **loops
        )
        self.hook = CheckConfigHook()

    def train(self):
        self.hook.before_train(self.runner)

    def validate(self):
        self.hook.before_val(self.runner)

    def test(self):
        self.hook.before_test(self.runner)


@pytest.fixture
def recognizer():
    """Of parts that count frames or classes."""

    def make(**parts):
        model = nn.Module()
        for name, part in parts.items():
            setattr(model, name, part)
        return model

    return make
