import pytest
from mmengine.config import Config

from .conftest import Checked

BASE = """
num_classes = 5
max_epochs = 4
train_pipeline = [dict(type='SampleFrames', num_clips=8)]
model = dict(cls_head=dict(num_classes=num_classes))
train_cfg = dict(max_epochs=max_epochs)
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
"""
LATE = 'of the config reaches nothing: it was used when the file was read. Change '
PIPELINE = 'train_dataloader.dataset.dataset.pipeline'


@pytest.fixture
def warnings(tmp_path, capfd):
    """Of a run of a config that inherits BASE, with options."""

    def run(child='', options=(), phase='train'):
        (tmp_path / 'base.py').write_text(BASE)
        (tmp_path / 'child.py').write_text(f"_base_ = 'base.py'\n{child}")
        cfg = Config.fromfile(tmp_path / 'child.py')
        cfg.merge_from_dict(dict(options))
        capfd.readouterr()
        checked = Checked()
        checked.runner.cfg = cfg
        getattr(checked, phase)()
        log = ''.join(capfd.readouterr())
        return [line for line in log.splitlines() if 'reaches nothing' in line]

    return run


@pytest.mark.parametrize(
    'changes, expected',
    [
        (
            dict(options={'num_classes': 6}),
            f'num_classes=6 {LATE}model.cls_head.num_classes, which has 5.',
        ),
        (
            dict(child='num_classes = 6'),
            f'num_classes=6 {LATE}model.cls_head.num_classes, which has 5.',
        ),
        (dict(options={'max_epochs': 6}), 'train_cfg.max_epochs, which has 4.'),
        # no variable of the files
        (dict(options={'dropout': 1, 'model.dropout': 0}), 'dropout=1'),
        (
            dict(options={'train_pipeline.0.num_clips': 16}),
            f'train_pipeline {LATE}{PIPELINE}.',
        ),
        (
            dict(options={'max_epochs': 6}, phase='test'),
            'train_cfg.max_epochs, which has 4.',
        ),
        (
            dict(child="train_pipeline = [dict(type='UniformSample')]"),
            f'train_pipeline {LATE}{PIPELINE}.',
        ),
    ],
)
def test_changed_after_it_was_used(warnings, changes, expected):
    (warning,) = warnings(**changes)
    assert expected in warning


@pytest.mark.parametrize(
    'changes',
    [
        {},
        # the settings themselves
        dict(options={'model.cls_head.num_classes': 6, 'train_cfg.max_epochs': 6}),
        dict(child='model = dict(cls_head=dict(num_classes=6))'),
        dict(options={f'{PIPELINE}.0.num_clips': 16}),
        # both
        dict(options={'num_classes': 6, 'model.cls_head.num_classes': 6}),
        # what means nothing to anybody
        dict(options={'seed': 6, 'val_pipeline': []}),
    ],
)
def test_sound(warnings, changes):
    assert not warnings(**changes)
