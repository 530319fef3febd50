"""Exports give the scores of the original."""

import sys
from collections import Counter

import pytest
import torch
from mmaction.registry import MODELS
from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config
from torch import nn

from aia_mmaction import CinST
from aia_mmaction.deployment.attention import BLOCK, export_attention
from aia_mmaction.deployment.exports import FORMATS, ScoresOfClips
from aia_mmaction.layers import ContextAttention, ContextGate
from aia_mmaction.plugins import PAPER_MODULES, attention_layers
from tools import export as tool

from ..backbones.conftest import NETWORKS
from ..conftest import REPO, exhaustive_but, needs_fast_paths, samples, scores_of

# Each layer in one block of the network, so that an export is of all four
EVERY_LAYER = [
    dict(cfg=dict(type=layer), stages=[i == stage for i in range(4)], blocks=[0])
    for stage, layer in enumerate(
        ['ChannelContext', 'SpatioTemporalContext', 'CinST', 'STinC']
    )
]
# One video of two views: of 2 x 4 frames, or 2 clips of 4 frames
SHAPES = {
    'tsn': (1, 8, 3, 32, 40),
    'tsm': (1, 8, 3, 32, 40),
    'r2plus1d': (1, 2, 3, 4, 32, 40),
}
HEADS = {
    'tsn': dict(type='TSNHead'),
    'tsm': dict(type='TSMHead', num_segments=4, is_shift=True),
    'r2plus1d': dict(type='I3DHead'),
}


def build(name, average_clips='prob', plugins=EVERY_LAYER):
    _, backbone, args, _ = NETWORKS[name]
    two_d = name != 'r2plus1d'
    if two_d:
        args = dict(
            num_segments=4, **{k: v for k, v in args.items() if k != 'num_segments'}
        )
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='Recognizer2D' if two_d else 'Recognizer3D',
            backbone=dict(type=backbone, plugins=plugins, **args),
            cls_head=dict(
                num_classes=5,
                in_channels=512,
                average_clips=average_clips,
                **HEADS[name],
            ),
            data_preprocessor=dict(
                type='ActionDataPreprocessor',
                mean=[123.675, 116.28, 103.53],
                std=[58.395, 57.12, 57.375],
                format_shape='NCHW' if two_d else 'NCTHW',
            ),
        )
    )
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    nn.init.normal_(model.cls_head.fc_cls.weight)
    model.eval()
    return model


def pixels(name, n=2):
    shape = (n, *SHAPES[name][1:])
    return torch.randint(0, 256, shape, dtype=torch.uint8)


@pytest.mark.parametrize('average_clips', ['prob', 'score', None])
@pytest.mark.parametrize('name', exhaustive_but(['tsm'], SHAPES))
def test_scores_are_those_of_mmaction2(name, average_clips):
    model, inputs = build(name, average_clips=average_clips), pixels(name)
    data = dict(inputs=list(inputs), data_samples=samples(2))
    with torch.no_grad():
        expected = scores_of(model.test_step(data))
        got = ScoresOfClips(model)(inputs)
    torch.testing.assert_close(got, expected.view_as(got))
    assert got.std() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    'case',
    exhaustive_but(
        [*(('tsm', key) for key in FORMATS), ('r2plus1d', 'onnx')],
        # TSN is TSM without the shift, and the newer exporter of ONNX slow
        [(n, k) for n in SHAPES for k in FORMATS if (n, k) != ('tsn', 'onnx_dynamo')],
    ),
    ids='-'.join,
)
def test_every_network_and_format(case, tmp_path):
    name, key = case
    kind = FORMATS[key]
    if key == 'pt2' and not hasattr(torch.export, 'Dim'):
        pytest.skip('torch.export begins later')
    for package in kind.packages:
        pytest.importorskip(package)
    model, out = ScoresOfClips(build(name)), tmp_path / f'x{kind.suffix}'
    assert tool.export(model, pixels(name, 1), out, kind) < 1e-5
    exported = kind.load(out)
    for n in (1, 3):  # batches other than that of the export
        inputs = pixels(name, n)
        with torch.no_grad():
            torch.testing.assert_close(
                exported(inputs), model(inputs), rtol=1e-4, atol=1e-5
            )
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def attention_of(model):
    return [m for m in model.modules() if isinstance(m, ContextAttention)]


@needs_fast_paths
@pytest.mark.parametrize('plugins', exhaustive_but(['STinCplusCinST'], PAPER_MODULES))
def test_attention_of_standard_operators(plugins):
    """It computes the same, of any batch, without a layer of ours."""
    model = ScoresOfClips(build('tsm', plugins=plugins))
    exported = export_attention(model, pixels('tsm'))
    assert attention_of(model) and not attention_of(exported)
    for inputs in pixels('tsm', 1), pixels('tsm', 3):
        with torch.no_grad():
            torch.testing.assert_close(exported(inputs), model(inputs))


@needs_fast_paths
@pytest.mark.parametrize('size', [1, BLOCK, BLOCK + 1, 2 * BLOCK])
@pytest.mark.parametrize('ndim', [4, 5])
def test_blocks_of_slices(ndim, size):
    """Of the channels of the T gate, more than a convolution takes at once."""
    layer = CinST(num_segments=3).eval()
    nn.init.normal_(layer.gate_t.norm.running_mean)
    x = torch.randn(6, size, 4, 5) if ndim == 4 else torch.randn(2, size, 3, 4, 5)
    exported = export_attention(nn.Sequential(layer), x)
    with torch.no_grad():
        torch.testing.assert_close(exported(x), layer(x))
    assert not attention_of(exported)


@needs_fast_paths
def test_attention_that_cannot_be_exported_stays():
    layers = [
        CinST(norm_cfg=dict(type='GN', num_groups=1)),
        CinST(norm_cfg=dict(type='BN3d', track_running_stats=False)),
    ]
    model = nn.Sequential(*layers).eval()
    x = torch.randn(1, 3, 2, 4, 4)
    exported = export_attention(model, x)
    assert attention_of(exported) == list(exported)
    with torch.no_grad():
        torch.testing.assert_close(exported(x), model(x))


@pytest.mark.slow
@needs_fast_paths
def test_in_8_bits(tmp_path):
    """All of the network, and nothing of the attention."""
    onnx, onnxruntime = map(pytest.importorskip, ('onnx', 'onnxruntime'))
    model = build('tsm')
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Convolutions of the same bias, which the exporter writes once
            nn.init.zeros_(module.running_mean)
    model, out = ScoresOfClips(model), tmp_path / 'x.onnx'
    clips = [pixels('tsm', 1) for _ in range(4)]
    tool.export(model, clips[0], out, FORMATS['onnx'], clips=clips)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / 'optimized.onnx')
    onnxruntime.InferenceSession(str(out), options, ['CPUExecutionProvider'])
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    found = Counter(node.op_type for node in nodes)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    gates = [m for m in model.modules() if isinstance(m, ContextGate)]
    assert found['QLinearConv'] == len(convolutions)
    assert found['Conv'] == len(gates)
    assert not found['QLinearSigmoid'] and not found['QGemm']


@pytest.mark.parametrize('name', exhaustive_but(['tsm'], SHAPES))
def test_folded_norms(name):
    model, inputs = build(name), pixels(name)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        expected = ScoresOfClips(model)(inputs)
        folded = fuse_conv_bn(model)
        torch.testing.assert_close(
            ScoresOfClips(folded)(inputs), expected, rtol=1e-4, atol=1e-5
        )
    assert len(attention_layers(folded)) == 4
    assert not norms or len(norms) > sum(
        isinstance(m, nn.BatchNorm2d) for m in folded.modules()
    )


def test_wrong_scores_are_not_written(tmp_path, monkeypatch):
    right = FORMATS['ts']
    wrong = right._replace(load=lambda path: lambda x: right.load(path)(x).flip(1))
    out = tmp_path / 'x.ts'
    out.write_text('old')
    with pytest.raises(ValueError, match='expected scores within'):
        tool.export(ScoresOfClips(build('tsn')), pixels('tsn', 1), out, wrong)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [('x.ts', 'old')]


@pytest.fixture
def trained(tmp_path):
    """A config and a checkpoint."""
    config = REPO / 'configs/tsn_r18_cinst_motion-pairs.py'
    model = MODELS.build(Config.fromfile(config).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'epoch_1.pth')
    return config, tmp_path / 'epoch_1.pth'


def call(monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['export.py', *map(str, args)])
    tool.main()


@pytest.mark.slow
def test_command(trained, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'x.onnx'
    call(monkeypatch, *trained, out, '--fuse-conv-bn')
    assert f'Wrote {out}: uint8 [N, 8, 3, 48, 48] to scores' in (
        capsys.readouterr().out
    )
    assert out.exists()


@pytest.mark.parametrize(
    'change,expected',
    [
        (dict(out='x.trt'), 'expected a name that ends in .onnx, .pt2, .ts'),
        (dict(checkpoint='none.pth'), 'none.pth: expected a file'),
        (dict(config='none.py'), 'none.py: expected a file'),
        (dict(config='epoch_1.pth'), 'expected a config of MMEngine'),
        (
            dict(config=REPO / 'configs/tsn_r18_motion-pairs.py'),
            'unexpected key in source state_dict',
        ),
    ],
)
def test_bad_input(trained, tmp_path, monkeypatch, capsys, change, expected):
    args = dict(zip(('config', 'checkpoint'), trained), out='x.ts')
    args.update(change)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit:
        call(monkeypatch, *args.values())
    assert expected in f'{exit.value}{capsys.readouterr().err}'
    assert [path.name for path in tmp_path.iterdir()] == ['epoch_1.pth']
