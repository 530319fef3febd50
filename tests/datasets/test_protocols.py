import pytest

from aia_mmaction.datasets.protocols import with_protocol

PIPELINE = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=1, num_clips=8, test_mode=True),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(320, 240), keep_ratio=False),
    dict(type='CenterCrop', crop_size=240),
    dict(type='FormatShape', input_format='NCHW'),
]


def test_leaves_the_rest_alone():
    changed = with_protocol(PIPELINE, 'accurate')
    assert changed[::2] == [
        PIPELINE[0],
        PIPELINE[2],
        dict(type='ThreeCrop', crop_size=256),
    ]
    assert changed[1] == dict(PIPELINE[1], twice_sample=True)
    assert changed[3] == dict(type='Resize', scale=(-1, 256))
    assert 'twice_sample' not in PIPELINE[1]


def test_unknown_name():
    with pytest.raises(ValueError, match="or None.*got 'fast'"):
        with_protocol(PIPELINE, 'fast')


def test_pipeline_of_another_form():
    with pytest.raises(ValueError, match='one Resize and one crop'):
        with_protocol(PIPELINE[:4], 'efficient')
