"""Every convolutional backbone of MMAction2 builds, trains and reloads."""
import importlib.util

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.utils import is_tuple_of

from aia_mmaction.backbones import attention_layers

from ..conftest import REPO
from .conftest import R2PLUS1D
from .test_plugins import is_aia

FRAMES, CLIP = (8, 3, 64, 64), (2, 3, 4, 64, 64)
RESNET3D = dict(depth=50, pretrained=None, pretrained2d=False)
SEGMENTS = dict(num_segments=4)

# MMAction2's name: (arguments, input of 2 clips of 4 frames, layers)
BACKBONES = {
    'ResNet': (dict(depth=50, **SEGMENTS), FRAMES, 16),
    'ResNetTSM': (dict(depth=50, pretrained2d=False, **SEGMENTS), FRAMES, 16),
    'MobileNetV2': (SEGMENTS, FRAMES, 17),
    'MobileNetV2TSM': (dict(pretrained2d=False, **SEGMENTS), FRAMES, 17),
    'TANet': (dict(depth=50, **SEGMENTS), FRAMES, 16),
    'C2D': (dict(depth=50, **SEGMENTS), CLIP, 16),
    'C3D': (dict(out_dim=4608), (1, 3, 16, 64, 64), 8),
    'ResNet3d': (RESNET3D, CLIP, 16),
    'ResNet3dSlowOnly': (RESNET3D, CLIP, 16),
    'ResNet3dSlowFast': (dict(pretrained=None,
                              resample_rate=4,
                              speed_ratio=4,
                              channel_ratio=8), (2, 3, 16, 64, 64), 32),
    'ResNet2Plus1d': (R2PLUS1D, CLIP, 8),
    'ResNet3dCSN': (dict(depth=50,
                         pretrained=None,
                         pretrained2d=False,
                         bottleneck_mode='ir'), CLIP, 16),
    'X3D': (dict(gamma_w=1, gamma_b=2.25, gamma_d=2.2), CLIP, 26),
}


def build(name, **kwargs):
    torch.manual_seed(0)
    return MODELS.build({'type': f'AIA{name}', **BACKBONES[name][0], **kwargs})


def forward(name, model):
    x = torch.randn(BACKBONES[name][1],
                    generator=torch.Generator().manual_seed(0))
    features = model(x.requires_grad_())
    return features if is_tuple_of(features, torch.Tensor) else (features, )


@pytest.mark.parametrize('name', BACKBONES)
class TestEveryBackbone:

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
        plain = MODELS.build({'type': name, **args})
        aia = build(name)
        assert list(plain.state_dict()) == [
            k for k in aia.state_dict() if not is_aia(k)
        ]
        assert list(plain.state_dict()) == list(
            build(name, plugins=[]).state_dict())

    def test_attention_keeps_its_own_initialisation(self, name):
        model = build(name)
        model.init_weights()
        outer = torch.stack([
            getattr(layer, f'gate_{axis}').conv.weight
            for _, layer in attention_layers(model) for axis in 'thw'
        ])
        assert outer.std().item() == pytest.approx((2 / 81)**0.5, rel=0.1)


@pytest.mark.parametrize(
    'name', [n for n in BACKBONES if n not in ('C3D', 'ResNet3dSlowFast')])
def test_frozen_stages(name):
    model = build(name, frozen_stages=2)
    model.train()
    sum(f.square().mean() for f in forward(name, model)).backward()
    for key, layer in attention_layers(model):
        frozen = key.split('.')[0] in ('layer1', 'layer2')
        assert layer.gate_c.norm.training != frozen, key
        assert (layer.gate_c.conv.weight.grad is None) == frozen, key


@pytest.mark.parametrize(
    'name', [n for n in BACKBONES if n not in ('C3D', 'ResNet3dSlowFast')])
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
        plugins = [dict(cfg=dict(type='CinST'), pathways=(pathway, ))]
        model = build(self.name, plugins=plugins)
        layers = attention_layers(model)
        assert len(layers) == 16
        assert all(name.startswith(f'{pathway}_path') for name, _ in layers)

    def test_unknown_pathway(self):
        plugins = [dict(cfg=dict(type='CinST'), pathways=('medium', ))]
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
    model = build('MobileNetV2TSM',
                  pretrained=str(tmp_path / 'plain.pth'),
                  pretrained2d=True)
    model.init_weights()
    got = {
        k.replace('.net.', '.'): v
        for k, v in model.state_dict().items() if not is_aia(k)
    }
    for key, value in plain.state_dict().items():
        assert torch.equal(got[key], value), key
    with pytest.raises(RuntimeError, match='Missing key'):
        model.load_state_dict(plain.state_dict(), strict=True)


@pytest.mark.skipif(importlib.util.find_spec('mmcv._ext') is not None,
                    reason='mmcv has compiled operators')
def test_tin_needs_compiled_operators():
    model = MODELS.build(dict(type='AIAResNetTIN', depth=50, num_segments=4))
    with pytest.raises(ImportError, match='tin_shift'):
        model(torch.randn(FRAMES))


def test_readme_table():
    readme = (REPO / 'README.md').read_text()
    for name in BACKBONES:
        assert f'| `{name}` | `AIA{name}` |' in readme, name
