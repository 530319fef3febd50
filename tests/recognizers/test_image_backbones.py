"""Image backbones of other libraries, which Recognizer2D takes, with AIA.

The libraries are not installed beside the rest, because torchvision's wheel
for CUDA breaks a PyTorch for CPUs; `make test` has them in a folder of their
own and runs this file with it.
"""

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import ConfigDict
from torch import nn

from aia_mmaction.layers import TimmAttention
from aia_mmaction.plugins import attention_layers, insert_plugins
from aia_mmaction.plugins.stages import find_stages

from ..backbones.conftest import build_aia, make_input
from ..backbones.test_plugins import is_aia
from ..conftest import (
    check_readme_table,
    count_attention,
    samples,
    scores_of,
)

for name in ('torchvision', 'timm', 'mmpretrain'):
    pytest.importorskip(name)

pytestmark = pytest.mark.image_libraries

# type: (arguments, channels of the last map, blocks of every stage)
NETWORKS = {
    'torchvision.resnet50': ({}, 2048, (3, 4, 6, 3)),
    'torchvision.densenet121': ({}, 1024, (6, 12, 24, 16)),
    'torchvision.mobilenet_v2': ({}, 1280, (17,)),
    'torchvision.efficientnet_b0': ({}, 1280, (1, 2, 2, 3, 3, 4, 1)),
    'torchvision.regnet_y_400mf': ({}, 440, (1, 3, 6, 6)),
    'timm.resnet50': ({}, 2048, (3, 4, 6, 3)),
    'timm.resnet50d': ({}, 2048, (3, 4, 6, 3)),
    'timm.efficientnet_b0': ({}, 1280, (1, 2, 2, 3, 3, 4, 1)),
    'timm.regnety_002': ({}, 368, (1, 1, 4, 7)),
    'mmpretrain.ResNeXt': (dict(depth=50), 2048, (3, 4, 6, 3)),
    'mmpretrain.SEResNet': (dict(depth=50), 2048, (3, 4, 6, 3)),
    'mmpretrain.MobileNetV3': ({}, 576, (11,)),
    'mmpretrain.MobileOne': (dict(arch='s0'), 1024, (2, 8, 10, 1)),
}


def build(name, recognizer='AIARecognizer2D', **kwargs):
    args, channels, _ = NETWORKS[name]
    torch.manual_seed(0)
    if recognizer == 'AIARecognizer2D':
        kwargs = dict(num_segments=4, **kwargs)
    return MODELS.build(
        dict(
            type=recognizer,
            backbone=dict(type=name, **args),
            cls_head=dict(
                type='TSNHead',
                num_classes=3,
                in_channels=channels,
                average_clips='prob',
            ),
            **kwargs,
        )
    )


def scores(model):
    clips = torch.randn(2, 4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model.eval()
    with torch.no_grad():
        return scores_of(model.predict(clips, samples(2)))


@pytest.mark.parametrize('name', NETWORKS)
class TestImageBackbone:
    def test_trains_and_reloads(self, name, tmp_path):
        model = build(name)
        model.init_weights()
        model.train()
        clips = torch.randn(2, 4, 3, 64, 64)
        model.loss(clips, samples(2))['loss_cls'].backward()
        for key, parameter in model.named_parameters():
            if is_aia(key):
                assert parameter.grad is not None, key
                assert torch.isfinite(parameter.grad).all(), key
        torch.save(model.state_dict(), tmp_path / 'model.pth')
        other = build(name)
        other.load_state_dict(torch.load(tmp_path / 'model.pth'))
        assert torch.equal(scores(other), scores(model))

    def test_plain_keys_stay(self, name):
        plain, aia = build(name, 'Recognizer2D'), build(name)
        assert list(plain.state_dict()) == [
            k for k in aia.state_dict() if not is_aia(k)
        ]

    def test_stages_and_blocks(self, name):
        """Norms are found in the order in which they are run."""
        model = build(name, 'Recognizer2D')
        stages = find_stages(model.backbone)
        assert tuple(map(len, stages)) == NETWORKS[name][2]
        order = []
        expected = [place for s in stages for block in s for place in block]
        for place in expected:
            place.register_forward_hook(lambda m, *_: order.append(m))
        scores(model)
        assert order == expected

    def test_twice(self, name):
        model = build(name)
        count = len(attention_layers(model))
        insert_plugins(model, 'STinC')
        assert len(attention_layers(model)) == 2 * count


class TestPlaces:
    def test_after_norm2(self):
        model = build('torchvision.resnet50')
        block = model.eval().backbone.layer1[1]
        attention = block.bn2.after_norm[0]
        x = torch.randn(8, 256, 8, 8)
        y = block.relu(block.bn1(block.conv1(x)))
        norm = nn.functional.batch_norm(
            block.conv2(y), block.bn2.running_mean, block.bn2.running_var
        )
        y = block.bn3(block.conv3(attention(norm).relu()))
        torch.testing.assert_close(block(x), (x + y).relu())

    def test_norm_with_activation(self):
        """Timm's BatchNormAct2d, whose activation is a part of it."""
        model = build(
            'timm.efficientnet_b0',
            plugins=[
                dict(cfg=dict(type='CinST'), position='after_norm2'),
                dict(cfg=dict(type='STinC'), position='after_conv2'),
            ],
        )
        bn2 = model.eval().backbone.blocks[1][0].bn2
        (_, first), (_, second) = attention_layers(bn2)
        x = torch.randn(8, 96, 8, 8)
        norm = nn.functional.batch_norm(
            x, bn2.running_mean, bn2.running_var, eps=bn2.eps
        )
        expected = second(nn.functional.silu(first(norm)))
        torch.testing.assert_close(bn2(x), expected)

    def test_position_that_is_not_there(self):
        plugins = [dict(cfg=dict(type='CinST'), position='after_conv2')]
        with pytest.raises(
            ValueError, match=r'\(after_norm1, after_norm2, after_norm3\)'
        ):
            build('torchvision.resnet50', plugins=plugins)

    def test_sync_bn(self):
        """PyTorch's conversion drops the hooks of the norms it replaces."""
        model = build('torchvision.resnet50')
        before = scores(model)
        model.backbone = nn.SyncBatchNorm.convert_sync_batchnorm(model.backbone)
        torch.testing.assert_close(scores(model), before)

    @pytest.mark.parametrize(
        'name',
        [
            'torchvision.vgg11_bn',
            'timm.convnext_atto',
            'timm.swin_tiny_patch4_window7_224',
        ],
    )
    def test_no_blocks(self, name):
        with pytest.raises(TypeError, match='AIANeck puts the same attention'):
            MODELS.build(
                dict(
                    type='AIARecognizer2D',
                    backbone=dict(type=name),
                    cls_head=dict(type='TSNHead', num_classes=3, in_channels=512),
                )
            )


@pytest.mark.parametrize(
    'name, where',
    [
        ('timm.resnest14d', 'layer1.0'),
        ('timm.res2net50_26w_4s', 'bns'),
        ('timm.repvgg_a0', 'conv_kxk'),
        ('torchvision.shufflenet_v2_x0_5', 'branch'),
        ('torchvision.googlenet', 'branch'),
    ],
)
def test_branches_inside_of_a_block(name, where):
    """There is no place that is after the second convolution."""
    kwargs = dict(init_weights=False) if 'googlenet' in name else {}
    with pytest.raises(TypeError, match=f'a chain of two.*{where}'):
        MODELS.build(
            dict(
                type='AIARecognizer2D',
                backbone=dict(type=name, **kwargs),
                cls_head=dict(type='TSNHead', num_classes=3, in_channels=512),
            )
        )


def test_max_testing_views():
    model = build('torchvision.resnet50')
    expected = scores(model)
    model.test_cfg = ConfigDict(max_testing_views=4)
    torch.testing.assert_close(scores(model), expected)


def test_readme_table():
    rows = [(f'`{name}`', *count_attention(build(name).backbone)) for name in NETWORKS]
    check_readme_table(
        'image backbones', ('backbone', 'attention layers', 'parameters'), rows
    )


def test_neck():
    """Recognizer2D averages the map first; its remedy is not out_indices."""
    model = MODELS.build(
        dict(
            type='Recognizer2D',
            backbone=dict(type='timm.regnety_002'),
            neck=dict(type='AIANeck', num_segments=4),
        )
    )
    with pytest.raises(ValueError, match='AIARecognizer2D; for a Swin take'):
        model.extract_feat(torch.zeros(1, 4, 3, 32, 32), stage='neck')


class TestTimmAttention:
    @pytest.mark.parametrize('attn_type', ['se', 'cbam', 'eca', 'gc', 'nl'])
    @pytest.mark.parametrize('network', ['tsn', 'r2plus1d'])
    def test_frames_one_by_one(self, attn_type, network):
        cfg = dict(type='TimmAttention', attn_type=attn_type)
        model = build_aia(network, plugins=[dict(cfg=cfg)]).eval()
        _, layer = attention_layers(model)[0]
        assert layer.attention(torch.randn(1, 64, 5, 6)).shape == (1, 64, 5, 6)
        x = torch.randn(2, 64, 3, 5, 6)  # [N, C, T, H, W]
        expected = [layer(x[:, :, t]) for t in range(3)]
        torch.testing.assert_close(layer(x), torch.stack(expected, 2))
        assert model.train() is model
        model(make_input(network)).sum().backward()
        assert all(
            p.grad is not None
            for _, layer in attention_layers(model)
            for p in layer.parameters()
        )

    def test_options_are_those_of_timm(self):
        layer = TimmAttention('se', 32, rd_channels=3)
        assert layer.attention.fc1.out_channels == 3

    @pytest.mark.parametrize('attn_type', ['sse', ''])
    def test_unknown(self, attn_type):
        expected = f'an attn_type that timm knows.*got {attn_type!r}'
        with pytest.raises(ValueError, match=expected):
            TimmAttention(attn_type, 32)
