import pytest
import torch
from mmaction.registry import MODELS

from aia_mmaction import AIANeck, insert_plugins

from ..backbones.conftest import build_aia, build_plain
from .conftest import Checked


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


def run_of(recognizer, backbone, head=None, train=4, val=4, test=4, **options):
    """A run of a backbone, each of whose pipelines samples so many frames."""
    heads = dict(
        TSMHead=dict(num_classes=2, in_channels=512, num_segments=head),
        TSNHead=dict(num_classes=2, in_channels=512),
    )
    kind = 'TSMHead' if head else 'TSNHead'
    model = recognizer(
        backbone=backbone, cls_head=MODELS.build(dict(type=kind, **heads[kind]))
    )
    cfg = dict(
        model=dict(backbone=dict()),
        train_dataloader=sampling(train, **options),
        val_dataloader=sampling(val, **options),
        test_dataloader=sampling(test, **options),
    )
    return Checked(model, cfg)


def test_agreement(recognizer, capfd):
    run = run_of(recognizer, build_aia('tsm'), head=4)
    run.train()
    run.validate()
    run.test()
    assert 'WARNING' not in ''.join(capfd.readouterr())


NUM_CLIPS = 'dataloader.dataset.dataset.pipeline.1.num_clips'


@pytest.mark.parametrize(
    'phase, kwargs, error',
    [
        ('train', dict(train=8), f'got 8 in train_{NUM_CLIPS}'),
        ('train', dict(val=16), f'got 16 in val_{NUM_CLIPS}'),
        ('test', dict(test=25), f'got 25 in test_{NUM_CLIPS}'),
        ('train', dict(head=8), 'got 8 in model.cls_head.num_segments'),
        ('test', dict(head=8), 'got 8 in model.cls_head.num_segments'),
    ],
)
def test_disagreement(recognizer, phase, kwargs, error):
    run = run_of(recognizer, build_aia('tsm'), **kwargs)
    for _ in range(2):  # also when a notebook runs the same cell again
        with pytest.raises(ValueError, match=f'expected 4 frames.*{error}'):
            getattr(run, phase)()


def test_remedy_can_be_pasted(recognizer):
    with pytest.raises(ValueError, match=f'--cfg-options train_{NUM_CLIPS}=4'):
        run_of(recognizer, build_aia('tsm'), train=8).train()


def test_training_only_warns_of_the_test_pipeline(recognizer, capfd):
    """MMAction2's TSN configs test with 25 frames."""
    run = run_of(recognizer, build_aia('tsm'), test=25)
    run.train()
    run.validate()
    log = ''.join(capfd.readouterr())
    assert log.count('This will stop testing') == 1
    assert f'got 25 in test_{NUM_CLIPS}' in log


def test_testing_ignores_the_other_pipelines(recognizer):
    run_of(recognizer, build_aia('tsm'), train=8, val=16).test()


def test_views_of_several_frames(recognizer):
    """C2D's configs test 10 views of 4 frames with a 2-D network."""
    run_of(recognizer, build_aia('tsn'), train=1, val=1, test=10, clip_len=4).train()


def test_optical_flow(recognizer):
    """Its clips of several frames are the channels of one."""
    backbone = build_aia('tsn', in_channels=10)
    run_of(recognizer, backbone, clip_len=5).train()
    with pytest.raises(ValueError, match=f'train_{NUM_CLIPS}=4'):
        run_of(recognizer, backbone, train=3, clip_len=5).train()


@pytest.mark.parametrize('phase', ['train', 'val', 'test'])
def test_first_batch(recognizer, phase):
    """Whatever sampled it."""
    run = run_of(recognizer, build_aia('tsn'))

    def batch(*shape):
        return dict(inputs=[torch.zeros(shape)])

    iterate = getattr(run.hook, f'before_{phase}_iter')
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r'clips of num_segments=4 .* got 3 frames'
        ):
            iterate(run.runner, 0, batch(3, 3, 8, 8))
    iterate(run.runner, 0, batch(12, 3, 8, 8))  # three crops
    iterate(run.runner, 1, batch(3, 3, 8, 8))  # only the first is looked at


def test_audio():
    model = MODELS.build(
        dict(
            type='RecognizerAudio',
            backbone=dict(type='AIAResNet', depth=18, in_channels=1),
            cls_head=dict(type='TSNAudioHead', num_classes=2, in_channels=512),
        )
    )
    with pytest.raises(ValueError, match='expected a recognizer of videos'):
        Checked(model).train()


def test_frames_of_c2d():
    """It gets clips, and folds them itself."""
    options = dict(depth=50, pretrained=None)
    model = MODELS.build(dict(type='AIAC2D', num_segments=8, **options))
    with pytest.raises(ValueError, match='num_segments=8 frames, got 16'):
        model(torch.zeros(1, 3, 16, 32, 32))


def test_model_object(recognizer):
    model = insert_plugins(build_plain('tsm'), [dict(cfg=dict(type='CinST'))])
    with pytest.raises(ValueError, match='got 16 in test_dataloader'):
        run_of(recognizer, model, test=16).test()


def test_neck(recognizer):
    model = recognizer(backbone=torch.nn.Identity(), neck=AIANeck(num_segments=4))
    cfg = dict(test_dataloader=sampling(8))
    with pytest.raises(ValueError, match='as in model.neck.num_segments, got 8'):
        Checked(model, cfg).test()


def test_networks_that_do_not_count_frames(recognizer):
    run_of(recognizer, build_aia('r2plus1d'), train=8).train()
    # TSN is often tested with 25 frames.
    run_of(recognizer, build_aia('tsn', plugins=[]), test=25).test()
