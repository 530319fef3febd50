import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub

from .conftest import build_aia


def running(num_segments, head=None, backbone='AIAResNetTSM', **num_clips):
    """A config as MMEngine's RuntimeInfoHook announces it."""
    frames = {'train': 4, 'val': 4, 'test': 4, **num_clips}
    cfg = dict(model=dict(backbone=dict(type='AIAResNetTSM',
                                        num_segments=num_segments),
                          cls_head=dict(type='TSMHead',
                                        num_segments=head or num_segments)),
               **{
                   f'{split}_dataloader':
                   dict(dataset=dict(
                       type='RepeatDataset',
                       dataset=dict(pipeline=[
                           dict(type='DecordInit'),
                           dict(type='SampleFrames', clip_len=1, num_clips=n)
                       ])))
                   for split, n in frames.items()
               })
    hub = MessageHub.get_instance('a run')
    hub.update_info('cfg', Config(cfg).pretty_text)


def test_agreement():
    model = build_aia('tsm')
    running(4)
    model.train()
    model.eval()


@pytest.mark.parametrize('kwargs, error', [
    (dict(train=8), 'got 8 in SampleFrames of train_dataloader'),
    (dict(val=16), 'got 16 in SampleFrames of val_dataloader'),
    (dict(test=25), 'got 25 in SampleFrames of test_dataloader'),
    (dict(head=8), 'got 8 in model.cls_head.num_segments'),
])
@pytest.mark.parametrize('mode', [True, False])
def test_disagreement(kwargs, error, mode):
    model = build_aia('tsm')
    running(4, **kwargs)
    with pytest.raises(ValueError, match=f'expected 4 frames.*{error}'):
        model.train(mode)


def test_config_of_another_model():
    running(8, train=16)
    build_aia('tsm').train()  # has 4 segments
    build_aia('tsn').train()
    build_aia('r2plus1d').train()


def test_no_run():
    build_aia('tsm').train()


def test_plain_network_takes_any_number_of_frames():
    """TSN is often tested with 25 frames."""
    model = build_aia('tsn', plugins=[])
    running(4, backbone='AIAResNet', test=25)
    assert model.eval()(torch.randn(25, 3, 32, 32)).shape[0] == 25
