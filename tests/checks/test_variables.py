import pytest

from .conftest import Checked

PIPELINE = [dict(type='SampleFrames', num_clips=8)]
CONFIG = dict(
    num_classes=5,
    max_epochs=4,
    train_pipeline=PIPELINE,
    test_pipeline=PIPELINE,
    model=dict(cls_head=dict(num_classes=5)),
    train_cfg=dict(max_epochs=4),
    train_dataloader=dict(dataset=dict(dataset=dict(pipeline=PIPELINE))),
)


def warnings(capfd, **changes):
    Checked(cfg={**CONFIG, **changes}).train()
    return [
        line for line in ''.join(capfd.readouterr()).splitlines() if 'reaches' in line
    ]


@pytest.mark.parametrize(
    'changes, expected',
    [
        (
            dict(num_classes=6),
            'num_classes=6 of the config reaches nothing: it was used when the file '
            'was read. Change model.cls_head.num_classes, which has 5.',
        ),
        (dict(max_epochs=6), 'Change train_cfg.max_epochs, which has 4.'),
        (
            dict(train_pipeline=[dict(PIPELINE[0], num_clips=16)]),
            'train_pipeline of the config reaches nothing: it was used when the file '
            'was read. Change train_dataloader.dataset.dataset.pipeline.',
        ),
    ],
)
def test_changed_after_it_was_used(capfd, changes, expected):
    (warning,) = warnings(capfd, **changes)
    assert expected in warning


@pytest.mark.parametrize(
    'changes',
    [
        {},
        # changed everywhere
        dict(num_classes=6, model=dict(cls_head=dict(num_classes=6))),
        # means nothing to anybody
        dict(seed=6, val_pipeline=[]),
    ],
)
def test_sound(capfd, changes):
    assert not warnings(capfd, **changes)
