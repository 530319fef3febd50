import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub

from aia_mmaction import insert_plugins

from .conftest import build_aia, build_plain


def sampling(num_clips, clip_len=1):
    return dict(
        dataset=dict(
            type='RepeatDataset',
            dataset=dict(
                pipeline=[
                    dict(type='DecordInit'),
                    dict(type='SampleFrames', clip_len=clip_len, num_clips=num_clips),
                ]
            ),
        )
    )


def running(
    num_segments,
    head=dict(type='TSMHead', num_segments=4),
    backbone='AIAResNetTSM',
    train=4,
    val=4,
    test=4,
    clip_len=1,
):
    """A config as MMEngine's RuntimeInfoHook announces it."""
    cfg = Config(
        dict(
            model=dict(
                backbone=dict(type=backbone, num_segments=num_segments), cls_head=head
            ),
            train_dataloader=sampling(train, clip_len),
            val_dataloader=sampling(val, clip_len),
            test_dataloader=sampling(test, clip_len),
        )
    )
    hub = MessageHub.get_instance('a run')
    hub.update_info('cfg', cfg.pretty_text)


def test_agreement():
    model = build_aia('tsm')
    running(4)
    model.train()
    model.eval()


HEAD = 'got 8 in model.cls_head.num_segments'
NUM_CLIPS = 'dataloader.dataset.dataset.pipeline.1.num_clips'


@pytest.mark.parametrize(
    'training, kwargs, error',
    [
        (True, dict(train=8), f'got 8 in train_{NUM_CLIPS}'),
        (True, dict(val=16), f'got 16 in val_{NUM_CLIPS}'),
        (False, dict(test=25), f'got 25 in test_{NUM_CLIPS}'),
        (True, dict(head=dict(type='TSMHead', num_segments=8)), HEAD),
        (False, dict(head=dict(type='TSMHead', num_segments=8)), HEAD),
        # TSMHead's default
        (True, dict(head=dict(type='mmaction.TSMHead')), HEAD),
    ],
)
def test_disagreement(training, kwargs, error):
    model = build_aia('tsm')
    running(4, **kwargs)
    with pytest.raises(ValueError, match=f'expected 4 frames.*{error}'):
        model.train(training)


def test_it_is_refused_every_time():
    """Also when a notebook runs the same cell again."""
    model = build_aia('tsm')
    running(4, train=8)
    for _ in range(2):
        with pytest.raises(ValueError, match='got 8 in train_dataloader'):
            model.train()


def test_remedy_can_be_pasted():
    model = build_aia('tsm')
    running(4, train=8)
    with pytest.raises(ValueError, match=f'--cfg-options train_{NUM_CLIPS}=4'):
        model.train()


def test_training_only_warns_of_the_test_pipeline(capfd):
    """MMAction2's TSN configs test with 25 frames."""
    model = build_aia('tsm')
    running(4, test=25)
    model.init_weights()
    model.train()
    log = ''.join(capfd.readouterr())
    assert log.count('This will stop testing') == 1
    assert f'got 25 in test_{NUM_CLIPS}' in log


def test_testing_ignores_the_other_pipelines():
    model = build_aia('tsm')
    running(4, train=8, val=16)
    model.eval()


def test_before_the_weights_are_initialised():
    """In training, before a resumed run overwrites the config."""
    model = build_aia('tsm')
    running(4, train=8)
    with pytest.raises(ValueError, match='got 8 in train_dataloader'):
        model.init_weights()
    model = build_aia('tsm')
    running(4)
    model.init_weights()
    running(4, train=8)
    model.train()


def test_views_of_several_frames():
    """C2D's configs test 10 views of 4 frames with a 2-D network."""
    model = build_aia('tsn')
    running(
        4,
        backbone='AIAResNet',
        head=dict(type='TSNHead'),
        train=1,
        val=1,
        test=10,
        clip_len=4,
    )
    model.train()


def test_model_object():
    model = insert_plugins(build_plain('tsm'), [dict(cfg=dict(type='CinST'))])
    running(4, backbone='ResNetTSM', test=16)
    with pytest.raises(ValueError, match='got 16 in test_dataloader'):
        model.eval()


def test_config_text_is_not_run(tmp_path):
    """A resumed checkpoint brings the text along."""
    canary = tmp_path / 'canary'
    hub = MessageHub.get_instance('a run')
    hub.update_info(
        'cfg', f"model = dict(a=open({str(canary)!r}, 'w'))\nopen({str(canary)!r}, 'w')"
    )
    build_aia('tsm').train()
    assert not canary.exists()


def test_config_of_another_model():
    running(8, train=16, head={})
    build_aia('tsm').train()  # has 4 segments
    build_aia('tsn').train()
    build_aia('r2plus1d').train()


def test_no_run():
    build_aia('tsm').train()


def test_plain_network_takes_any_number_of_frames():
    """TSN is often tested with 25 frames."""
    model = build_aia('tsn', plugins=[])
    running(4, backbone='AIAResNet', test=25)
    model.eval()
    assert model(torch.randn(25, 3, 32, 32)).shape[0] == 25


def test_variable_of_a_config(capfd):
    """`--cfg-options num_segments=8` reaches nothing that is built."""
    model = build_aia('tsm')
    running(4)
    hub = MessageHub.get_current_instance()
    text = hub.runtime_info['cfg']
    hub.update_info('cfg', f'{text}\nnum_segments = 8\n')
    model.train()
    log = ''.join(capfd.readouterr())
    assert 'num_segments=8 of the config reaches nothing' in log
