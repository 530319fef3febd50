"""Every convolutional backbone of MMAction2 builds, trains and reloads."""

import importlib.util

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.utils import is_tuple_of

from aia_mmaction.plugins import attention_layers, insert_plugins

from ..conftest import check_readme_table, count_attention, samples, slow_but
from .conftest import R2PLUS1D
from .test_plugins import is_aia

FRAMES, CLIP = (8, 3, 32, 32), (2, 3, 4, 32, 32)
RESNET3D = dict(depth=50, pretrained=None, pretrained2d=False)
SEGMENTS = dict(num_segments=4)

# MMAction2's name: (arguments, input of 2 clips of 4 frames, layers, remark)
BACKBONES = {
    'ResNet': (
        dict(depth=50, **SEGMENTS),
        FRAMES,
        16,
        'TSN, `num_segments` is 8 unless set',
    ),
    'ResNetTSM': (dict(depth=50, pretrained2d=False, **SEGMENTS), FRAMES, 16, 'TSM'),
    'MobileNetV2': (SEGMENTS, FRAMES, 17, 'TSN, `num_segments` is 8 unless set'),
    'MobileNetV2TSM': (dict(pretrained2d=False, **SEGMENTS), FRAMES, 17, 'TSM'),
    'MobileOneTSM': (
        dict(arch='s0', pretrained2d=False, **SEGMENTS),
        FRAMES,
        21,
        'TSM, needs mmpretrain',
    ),
    'ResNetTIN': (
        dict(depth=50, **SEGMENTS),
        FRAMES,
        16,
        'needs the compiled operators of mmcv, has not been run',
    ),
    'TANet': (dict(depth=50, **SEGMENTS), FRAMES, 16, ''),
    'C2D': (
        dict(depth=50, **SEGMENTS),
        CLIP,
        16,
        '`num_segments` is the number of frames that go in',
    ),
    'C3D': (
        dict(out_dim=4608),
        (1, 3, 16, 64, 64),
        8,
        'every convolution is a block, position `after_norm1`',
    ),
    'ResNet3d': (RESNET3D, CLIP, 16, 'I3D'),
    'ResNet3dSlowOnly': (RESNET3D, CLIP, 16, ''),
    'ResNet3dSlowFast': (
        dict(pretrained=None, resample_rate=4, speed_ratio=4, channel_ratio=8),
        (2, 3, 16, 64, 64),
        32,
        "both pathways, or `pathways=('slow', )` of a plugin",
    ),
    'ResNet2Plus1d': (dict(R2PLUS1D, depth=34), CLIP, 16, 'R(2+1)D'),
    'ResNet3dCSN': (
        dict(depth=50, pretrained=None, pretrained2d=False, bottleneck_mode='ir'),
        CLIP,
        16,
        'ip and ir',
    ),
    'X3D': (dict(gamma_w=1, gamma_b=2.25, gamma_d=2.2), CLIP, 26, ''),
}
HAS_MMPRETRAIN = importlib.util.find_spec('mmpretrain') is not None
HAS_OPERATORS = importlib.util.find_spec('mmcv._ext') is not None
BY_MAKE_TEST = 'needs mmpretrain; a second run of `make test` has it'
needs_mmpretrain = [
    pytest.mark.image_libraries,
    pytest.mark.skipif(not HAS_MMPRETRAIN, reason=BY_MAKE_TEST),
]
MARKS = {
    'MobileOneTSM': needs_mmpretrain,
    'ResNetTIN': pytest.mark.skipif(
        not HAS_OPERATORS, reason='mmcv-lite has no compiled operators'
    ),
}


def names(without=()):
    return [
        pytest.param(name, marks=MARKS.get(name, []))
        for name in BACKBONES
        if name not in without
    ]


def build(name, **kwargs):
    torch.manual_seed(0)
    return MODELS.build({'type': f'AIA{name}', **BACKBONES[name][0], **kwargs})


def forward(name, model):
    x = torch.randn(BACKBONES[name][1], generator=torch.Generator().manual_seed(0))
    features = model(x.requires_grad_())
    return features if is_tuple_of(features, torch.Tensor) else (features,)


@pytest.mark.parametrize('name', names())
class TestEveryBackbone:
    @pytest.mark.slow
    def test_trains_and_reloads(self, name, tmp_path):
        model = build(name)
        model.init_weights()
        model.train()
        assert len(attention_layers(model)) == BACKBONES[name][2]
        sum(f.square().mean() for f in forward(name, model)).backward()
        for key, parameter in model.named_parameters():
            if is_aia(key):
                assert parameter.grad is not None, key
                assert torch.isfinite(parameter.grad).all(), key

        torch.save(model.state_dict(), tmp_path / 'model.pth')
        other = build(name)
        other.load_state_dict(torch.load(tmp_path / 'model.pth'))
        model.eval()
        other.eval()
        for a, b in zip(forward(name, model), forward(name, other)):
            assert torch.equal(a, b)

    def test_plain_keys_stay(self, name):
        args = dict(BACKBONES[name][0])
        if name in ('ResNet', 'MobileNetV2', 'C2D'):
            args.pop('num_segments')
        # Names need no memory, but for TANet, which looks at its weights.
        with torch.device('cpu' if name == 'TANet' else 'meta'):
            plain = MODELS.build({'type': name, **args})
            aia, without = build(name), build(name, plugins=[])
        assert list(plain.state_dict()) == [
            k for k in aia.state_dict() if not is_aia(k)
        ]
        assert list(plain.state_dict()) == list(without.state_dict())

    @pytest.mark.slow
    def test_attention_keeps_its_own_initialisation(self, name):
        model = build(name)
        model.init_weights()
        outer = torch.stack(
            [
                getattr(layer, f'gate_{axis}').conv.weight
                for _, layer in attention_layers(model)
                for axis in 'thw'
            ]
        )
        assert outer.std().item() == pytest.approx((2 / 81) ** 0.5, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize('name', names(without=('C3D', 'ResNet3dSlowFast')))
def test_frozen_stages(name):
    model = build(name, frozen_stages=2)
    model.train()
    sum(f.square().mean() for f in forward(name, model)).backward()
    for key, layer in attention_layers(model):
        frozen = key.split('.')[0] in ('layer1', 'layer2', 'stage1', 'stage2')
        assert layer.gate_c.norm.training != frozen, key
        assert (layer.gate_c.conv.weight.grad is None) == frozen, key


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    'name', names(without=('C3D', 'ResNet3dSlowFast', 'MobileOneTSM'))
)
def test_with_cp(name):
    grads = []
    for with_cp in (False, True):
        model = build(name, with_cp=with_cp)
        model.train()
        sum(f.square().mean() for f in forward(name, model)).backward()
        grads.append({k: p.grad for k, p in model.named_parameters()})
    for key, grad in grads[0].items():
        torch.testing.assert_close(grads[1][key], grad)


class TestSlowFast:
    name = 'ResNet3dSlowFast'

    @pytest.mark.parametrize('pathway', ['slow', 'fast'])
    def test_one_pathway(self, pathway):
        plugins = [dict(cfg=dict(type='CinST'), pathways=(pathway,))]
        model = build(self.name, plugins=plugins)
        layers = attention_layers(model)
        assert len(layers) == 16
        assert all(name.startswith(f'{pathway}_path') for name, _ in layers)

    def test_missing_keys_of_each_pathway(self, capfd):
        model = build(self.name)
        state = {k: v for k, v in model.state_dict().items() if 'slow_path' not in k}
        model.load_state_dict(state, strict=False)
        lines = [
            line
            for line in ''.join(capfd.readouterr()).splitlines()
            if 'keys of the attention are not in the checkpoint' in line
        ]
        # Of the slow one; nothing is missing of the fast one.
        assert len(lines) == 1

    def test_unknown_pathway(self):
        plugins = [dict(cfg=dict(type='CinST'), pathways=('medium',))]
        with pytest.raises(ValueError, match='pathways out of slow, fast'):
            build(self.name, plugins=plugins)


def test_csn_ip():
    model = build('ResNet3dCSN', bottleneck_mode='ip')
    # behind the depthwise convolution, not the pointwise one before it
    assert all('.conv2.1.' in name for name, _ in attention_layers(model))
    forward('ResNet3dCSN', model)


def test_imagenet_weights_that_are_loaded_strictly(tmp_path):
    """MobileNetV2TSM loads its 2-D checkpoint with strict=True."""
    plain = MODELS.build(dict(type='MobileNetV2'))
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    model = build(
        'MobileNetV2TSM', pretrained=str(tmp_path / 'plain.pth'), pretrained2d=True
    )
    model.init_weights()
    got = {
        k.replace('.net.', '.'): v
        for k, v in model.state_dict().items()
        if not is_aia(k)
    }
    for key, value in plain.state_dict().items():
        assert torch.equal(got[key], value), key
    with pytest.raises(RuntimeError, match='Missing key'):
        model.load_state_dict(plain.state_dict(), strict=True)


@pytest.mark.skipif(HAS_OPERATORS, reason='mmcv has compiled operators')
def test_tin_needs_compiled_operators():
    model = MODELS.build(dict(type='AIAResNetTIN', depth=50, num_segments=4))
    with pytest.raises(ImportError, match='tin_shift'):
        model(torch.randn(FRAMES))


@pytest.mark.skipif(HAS_MMPRETRAIN, reason='mmpretrain is here')
def test_mobileone_needs_mmpretrain():
    reason = "got ModuleNotFoundError: No module named 'mmpretrain'.*pip install"
    with pytest.raises(ImportError, match=reason):
        build('MobileOneTSM')


@pytest.mark.slow
@pytest.mark.parametrize('name', ['ResNetTSM', 'ResNet3dSlowOnly'])
def test_tpn(name):
    """TPN takes the maps of two stages."""
    channels = (1024, 2048)
    model = MODELS.build(
        dict(
            type='Recognizer2D' if name == 'ResNetTSM' else 'Recognizer3D',
            backbone={
                'type': f'AIA{name}',
                **BACKBONES[name][0],
                'out_indices': (2, 3),
            },
            neck=dict(
                type='TPN',
                in_channels=channels,
                out_channels=256,
                spatial_modulation_cfg=dict(in_channels=channels, out_channels=2048),
                temporal_modulation_cfg=dict(downsample_scales=(4, 4)),
                upsample_cfg=dict(scale_factor=(1, 1, 1)),
                downsample_cfg=dict(downsample_scale=(1, 1, 1)),
                level_fusion_cfg=dict(
                    in_channels=(256, 256),
                    mid_channels=(256, 256),
                    out_channels=512,
                    downsample_scales=((1, 1, 1), (1, 1, 1)),
                ),
            ),
            cls_head=dict(type='TPNHead', num_classes=3, in_channels=2048),
        )
    )
    model.train()
    clips = torch.randn(2, 4, 3, 64, 64)
    if name != 'ResNetTSM':
        clips = torch.randn(2, 1, 3, 4, 64, 64)
    model.loss(clips, samples(2))['loss_cls'].backward()
    assert len(attention_layers(model.backbone)) == 16
    assert all(p.grad is not None for n, p in model.named_parameters() if is_aia(n))


@pytest.mark.image_libraries
@pytest.mark.skipif(not HAS_MMPRETRAIN, reason=BY_MAKE_TEST)
def test_readme_table():
    rows = []
    for name, (args, _, _, remark) in BACKBONES.items():
        network = f'`{name}`'
        if 'depth' in args:
            network += f', depth {args["depth"]}'
        rows.append((network, f'`AIA{name}`', *count_attention(build(name)), remark))
    check_readme_table(
        'backbones',
        (
            'yours',
            "`type='aia_mmaction.…'`",
            'attention layers',
            'parameters',
            'remarks',
        ),
        rows,
    )


GRAPH = dict(layout='coco', mode='stgcn_spatial')
UNFIT = {
    'AAGCN': dict(graph_cfg=GRAPH),
    'OmniResNet': {},
    'ResNetAudio': dict(depth=50, pretrained=None),
    'STGCN': dict(graph_cfg=GRAPH),
    'UniFormer': dict(
        depth=[1, 1, 1, 1], embed_dim=[16, 32, 64, 64], head_dim=16, pretrained2d=False
    ),
}


@pytest.mark.parametrize('name', slow_but(['OmniResNet'], UNFIT))
def test_networks_in_which_attention_would_be_of_no_use(name):
    model = MODELS.build({'type': name, **UNFIT[name]})
    before = list(model.state_dict())
    with pytest.raises(TypeError, match=f'got {name}: '):
        insert_plugins(model, 'CinST', num_segments=4)
    assert list(model.state_dict()) == before


@pytest.mark.slow
def test_initialisation_in_a_network_that_initialises_all_below_it():
    model = insert_plugins(MODELS.build(dict(type='RGBPoseConv3D')), 'CinST')
    before = {k: v.clone() for k, v in model.state_dict().items() if is_aia(k)}
    model.init_weights()
    assert before
    for key, value in before.items():
        assert torch.equal(model.state_dict()[key], value), key
