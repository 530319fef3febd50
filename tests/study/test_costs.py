"""What networks cost is measured once."""

import json

from mmengine.config import Config

from aia_mmaction.study import costs


def config(depth):
    sampling = dict(type='SampleFrames', clip_len=1, num_clips=1, test_mode=True)
    pipeline = [
        sampling,
        dict(type='DecordDecode'),
        dict(type='Resize', scale=(32, 32), keep_ratio=False),
        dict(type='FormatShape', input_format='NCHW'),
        dict(type='PackActionInputs'),
    ]
    return Config(
        dict(
            model=dict(
                type='Recognizer2D',
                backbone=dict(type='ResNet', depth=depth),
                cls_head=dict(type='TSNHead', num_classes=2, in_channels=512),
            ),
            test_dataloader=dict(dataset=dict(pipeline=pipeline)),
        )
    )


def test_another_config_is_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, 'REPEATS', 1)
    path = tmp_path / 'costs.json'
    first = costs.read_or_measure(path, dict(net=config(18)))
    kept = json.loads(path.read_text())
    kept['models']['net']['milliseconds'] = 5.0
    path.write_text(json.dumps(kept))
    again = costs.read_or_measure(path, dict(net=config(18)))
    assert again['models']['net']['milliseconds'] == 5.0
    other = costs.read_or_measure(path, dict(net=config(34)))['models']['net']
    assert other['parameters'] > first['models']['net']['parameters']
    assert json.loads(path.read_text())['models']['net'] == other
