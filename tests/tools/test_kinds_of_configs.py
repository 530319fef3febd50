"""Tools on configs of MMAction2's other inputs, and in pure Python."""

import sys

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config

from aia_mmaction.datasets.example import example_inputs
from tools import benchmark, complexity, export, visualize_attention

from ..conftest import REPO

PURE_PYTHON = """
from mmaction.datasets import (
    DecordDecode, DecordInit, FormatShape, PackActionInputs, Resize, SampleFrames,
    VideoDataset)
from mmaction.models import ActionDataPreprocessor, Recognizer2D, TSMHead

from aia_mmaction import AIAResNetTSM, CinST

model = dict(
    type=Recognizer2D,
    backbone=dict(
        type=AIAResNetTSM, depth=18, num_segments=4, pretrained2d=False,
        plugins=[dict(cfg=dict(type=CinST))]),
    cls_head=dict(type=TSMHead, num_classes=3, in_channels=512, num_segments=4),
    data_preprocessor=dict(
        type=ActionDataPreprocessor, mean=[120.0] * 3, std=[60.0] * 3,
        format_shape='NCHW'))
pipeline = [
    dict(type=DecordInit), dict(type=SampleFrames, clip_len=1, num_clips=4),
    dict(type=DecordDecode), dict(type=Resize, scale=(32, 32), keep_ratio=False),
    dict(type=FormatShape, input_format='NCHW'), dict(type=PackActionInputs)]
train_dataloader = dict(
    dataset=dict(type=VideoDataset, ann_file='list.txt', pipeline=pipeline))
test_dataloader = train_dataloader
test_pipeline = pipeline
"""
FLOW = """
_base_ = (
    'mmaction::recognition/tsn/'
    'tsn_imagenet-pretrained-r50_8xb32_5x1x3-110e_kinetics400-flow.py')
model = dict(
    backbone=dict(type='AIAResNet', num_segments=3, depth=18),
    cls_head=dict(in_channels=512))
"""
SKELETONS = """
_base_ = 'mmaction::skeleton/posec3d/slowonly_r50_8xb16-u48-240e_gym-keypoint.py'
model = dict(backbone=dict(type='AIAResNet3dSlowOnly'))
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write config.py, and a.pth that fits it, where the tools are called."""
    monkeypatch.chdir(tmp_path)

    def write(text, checkpoint=True):
        (tmp_path / 'config.py').write_text(text)
        cfg = Config.fromfile('config.py')
        if checkpoint:
            cfg.model.backbone.pretrained = None
            model = MODELS.build(cfg.model)
            torch.save(dict(state_dict=model.state_dict(), meta={}), 'a.pth')
        return cfg

    return write


@pytest.fixture
def command(monkeypatch, capsys):
    """Run a tool, and return what it printed."""

    def call(tool, *args):
        monkeypatch.setattr(sys, 'argv', [tool.__name__, *map(str, args)])
        tool.main()
        return capsys.readouterr().out

    return call


def test_complexity_in_pure_python(write, command):
    write(PURE_PYTHON, checkpoint=False)
    out = command(complexity, 'config.py')
    assert '1x4x3x32x32' in out and '8 layers' in out


@pytest.mark.exhaustive
def test_others_in_pure_python(write, command, motion_pairs):
    write(PURE_PYTHON)
    out = command(export, 'config.py', 'a.pth', 'a.ts')
    assert 'Wrote a.ts: uint8 [N, 4, 3, 32, 32]' in out
    options = ('--size', 32, '--repeats', 1, '--metrics', 'inference')
    assert '1x4x3x32x32' in command(benchmark, 'network', 'config.py', *options)
    video = motion_pairs / 'data/motion_pairs/videos/test/00000.avi'
    out = command(
        visualize_attention,
        'config.py',
        'a.pth',
        video,
        '--stages',
        4,
        '--device',
        'cpu',
    )
    assert '00000.avi: class ' in out


@pytest.mark.parametrize(
    'text, loader, shape, dtype',
    [
        (FLOW, 'train', (1, 3, 10, 224, 224), torch.uint8),
        (FLOW, 'test', (1, 250, 10, 224, 224), torch.uint8),  # 25 frames, 10 crops
        (SKELETONS, 'train', (1, 1, 17, 48, 56, 56), torch.float32),
        (SKELETONS, 'test', (1, 20, 17, 48, 64, 64), torch.float32),
    ],
)
def test_inputs(tmp_path, text, loader, shape, dtype):
    (tmp_path / 'config.py').write_text(text)
    inputs = example_inputs(Config.fromfile(tmp_path / 'config.py'), loader)
    assert (inputs.shape, inputs.dtype) == (shape, dtype)


@pytest.mark.slow
def test_optical_flow(write, command):
    write(FLOW)
    with pytest.raises(SystemExit, match='expected 3 frames .*num_clips=3'):
        command(complexity, 'config.py')  # MMAction2 tests with 25 frames
    small = (
        '--cfg-options',
        'test_dataloader.dataset.pipeline.0.num_clips=3',
        'test_dataloader.dataset.pipeline.2.scale=(-1,32)',
        'test_dataloader.dataset.pipeline.3.crop_size=32',
    )
    assert '1x30x10x32x32' in command(complexity, 'config.py', *small)
    out = command(export, 'config.py', 'a.pth', 'a.ts', *small)
    assert 'uint8 [N, 30, 10, 32, 32]' in out
    options = ('--size', 32, '--repeats', 1, '--metrics', 'inference')
    assert '1x3x10x32x32' in command(benchmark, 'network', 'config.py', *options)


@pytest.mark.slow
def test_skeletons(write, command, tmp_path):
    write(SKELETONS)
    small = (
        '--cfg-options',
        'test_dataloader.dataset.pipeline.0.num_clips=1',
        'test_dataloader.dataset.pipeline.0.clip_len=8',
        'test_dataloader.dataset.pipeline.3.scale=(-1,16)',
        'test_dataloader.dataset.pipeline.4.crop_size=16',
    )
    # a skeleton and its mirror image
    assert '1x2x17x8x16x16' in command(complexity, 'config.py', *small)
    out = command(export, 'config.py', 'a.pth', 'a.ts', *small)
    assert 'float32 [N, 2, 17, 8, 16, 16]' in out
    with pytest.raises(SystemExit, match='reads pictures'):
        command(visualize_attention, 'config.py', 'a.pth', tmp_path / 'config.py')


def test_other_inputs(write, command):
    """Such as audio."""
    cfg = write(PURE_PYTHON, checkpoint=False)
    cfg.test_dataloader.dataset.pipeline = [dict(type='AudioFeatureSelector')]
    with pytest.raises(ValueError, match='expected a pipeline that reads videos'):
        example_inputs(cfg, 'test')


def test_networks_without_attention(command):
    config = REPO / 'configs/tsn_r18_motion-pairs.py'
    for tool, *args in ((complexity,), (benchmark, 'network')):
        with pytest.raises(SystemExit, match='expected a network with attention'):
            command(tool, *args, config)
