import pytest
import torch
from mmaction.registry import MODELS

from aia_mmaction.layers import recorded_gates
from aia_mmaction.visualization import gate_maps, layers_by_stage


def build(name, impl='auto', **kwargs):
    layer = MODELS.build(dict(type=name, impl=impl, **kwargs)).eval()
    for gate in layer.children():  # away from 0.5, where all are alike
        torch.nn.init.normal_(gate.conv.weight)
        torch.nn.init.normal_(gate.norm.bias)
    return layer


def record(layer, x):
    with recorded_gates(layer) as gates, torch.no_grad():
        out = layer(x)
    return out, gates[layer]


@pytest.mark.parametrize('impl', ['auto', 'fused', 'reference'])
@pytest.mark.parametrize('name', ['CinST', 'SpatioTemporalContext'])
def test_mean_map_is_what_the_layer_multiplies_by(name, impl):
    layer = build(name, impl)
    x = torch.rand(2, 5, 3, 7, 6) + 1
    out, gates = record(layer, x)
    *_, (title, values) = gate_maps(layer, gates, 'mean')
    torch.testing.assert_close(values, (out / x).mean(1))
    assert title == f'{name}\nT+H+W gates / 3'


@pytest.mark.parametrize('name', ['STinC', 'ChannelContext'])
def test_c_map_is_what_the_layer_multiplies_by(name):
    layer = build(name, num_segments=3)
    x = torch.rand(6, 5, 7, 6) + 1
    out, gates = record(layer, x)
    title, values = gate_maps(layer, gates)[0]
    # [N * T, C, H, W] -> [N, T, H, W], the same for every channel
    expected = (out / x)[:, 2].reshape(2, 3, 7, 6)
    torch.testing.assert_close(values, expected)
    assert title == f'{name}\nC gate'


def test_product_map():
    layer = build('CinST')
    _, gates = record(layer, torch.randn(1, 4, 3, 5, 6))
    _, (title, values) = gate_maps(layer, gates)
    expected = (
        sum(
            gates['T'][0, c, 0, 4, 1]
            * gates['H'][0, c, 2, 0, 1]
            * gates['W'][0, c, 2, 4, 0]
            for c in range(4)
        )
        / 4
    )
    torch.testing.assert_close(values[0, 2, 4, 1], expected)
    assert values.shape == (1, 3, 5, 6)


def test_layer_is_as_before():
    layer = build('CinST', impl='fused')
    x = torch.randn(1, 4, 3, 5, 6)
    before = layer(x)
    out, _ = record(layer, x)
    torch.testing.assert_close(out, before)
    assert layer.impl == 'fused'
    assert not any(gate._forward_hooks for gate in layer.children())


def test_layer_is_as_before_after_an_error():
    layer = build('CinST', impl='fused')
    with pytest.raises(TypeError), recorded_gates(layer):
        layer(torch.ones(1, 4, 3, 5, 6, dtype=torch.int64))
    assert layer.impl == 'fused'
    assert not any(gate._forward_hooks for gate in layer.children())


def names_by_stage(model):
    names = {m: name for name, m in model.named_modules()}
    return {
        stage: [names[layer] for layer in layers]
        for stage, layers in layers_by_stage(model).items()
    }


def test_last_block_with_attention_of_each_stage():
    backbone = MODELS.build(
        dict(
            type='AIAResNetTSM',
            depth=50,
            num_segments=8,
            pretrained=None,
            pretrained2d=False,
            plugins=[
                dict(cfg=dict(type='CinST'), stages=(0, 1, 1, 0)),
                dict(cfg=dict(type='STinC'), stages=(0, 0, 1, 0), blocks=[1]),
            ],
        )
    )
    assert names_by_stage(backbone) == {
        '2': ['layer2.3.conv2.activate.after_norm.0'],
        '3': ['layer3.5.conv2.activate.after_norm.0'],
    }


def test_layers_in_a_row_and_side_by_side():
    for module, names in [
        ('C2ST', ['0', '1']),
        ('CplusST', ['0.branches.0', '0.branches.1']),
    ]:
        backbone = MODELS.build(
            dict(
                type='AIAResNet',
                depth=18,
                num_segments=8,
                pretrained=None,
                plugins=module,
            )
        )
        assert names_by_stage(backbone)['4'] == [
            f'layer4.1.conv2.activate.after_norm.{name}' for name in names
        ]


def test_slowfast():
    backbone = MODELS.build(
        dict(
            type='AIAResNet3dSlowFast',
            pretrained=None,
            slow_pathway=dict(type='resnet3d', depth=18, pretrained=None, lateral=True),
            fast_pathway=dict(
                type='resnet3d',
                depth=18,
                pretrained=None,
                lateral=False,
                base_channels=8,
            ),
            plugins=[dict(cfg=dict(type='CinST'), stages=(0, 0, 0, 1))],
        )
    )
    assert list(layers_by_stage(backbone)) == ['slow 4', 'fast 4']


def test_neck():
    model = torch.nn.Module()
    model.backbone = MODELS.build(dict(type='ResNet', depth=18))
    model.neck = MODELS.build(dict(type='AIANeck', num_segments=8))
    assert names_by_stage(model) == {'neck': ['neck.attention.0']}


def test_without_attention():
    assert layers_by_stage(MODELS.build(dict(type='ResNet', depth=18))) == {}
