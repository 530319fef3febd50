import pytest
import torch
from mmaction.registry import MODELS

from aia_mmaction import STinC
from aia_mmaction.plugins import attention_layers

from ..checks.conftest import Checked


def build(num_segments=4, head=dict(type='TSNHead'), **kwargs):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='AIARecognizer2D',
            num_segments=num_segments,
            backbone=dict(type='ResNet', depth=18),
            cls_head=dict(num_classes=3, in_channels=512, **head),
            **kwargs,
        )
    )


def test_is_the_backbone_with_plugins():
    model = build(plugins='STinC')
    layers = attention_layers(model.backbone)
    assert len(layers) == 8
    assert all(type(m) is STinC and m.num_segments == 4 for _, m in layers)
    other = MODELS.build(dict(type='AIAResNet', depth=18, plugins='STinC'))
    assert list(model.backbone.state_dict()) == list(other.state_dict())


def test_num_segments_of_the_head():
    with pytest.raises(ValueError, match='4 in the argument, 8 in the head'):
        build(head=dict(type='TSMHead'))


def test_num_segments_of_the_pipeline():
    """It is compared with the running config, as a backbone's own is."""
    pipeline = [dict(type='SampleFrames', clip_len=1, num_clips=8)]
    cfg = dict(
        model=dict(type='AIARecognizer2D', num_segments=4),
        train_dataloader=dict(dataset=dict(pipeline=pipeline)),
    )
    with pytest.raises(
        ValueError, match='as in model.num_segments, got 8 in train_data'
    ):
        Checked(build(), cfg).train()


def test_backbone_with_attention():
    with pytest.raises(ValueError, match='backbone without attention'):
        MODELS.build(
            dict(type='AIARecognizer2D', backbone=dict(type='AIAResNet', depth=18))
        )
