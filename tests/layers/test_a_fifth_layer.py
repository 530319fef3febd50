"""A new layer takes what CONTRIBUTING.md says: a row, a class and a name."""

import pytest
import torch
from mmaction.registry import MODELS

from aia_mmaction import AIAResNet, ops
from aia_mmaction.layers import ContextAttention
from aia_mmaction.ops import dispatch
from aia_mmaction.ops.parity import deviations

from ..conftest import needs_fast_paths

RESNET18 = dict(
    depth=18,
    pretrained=None,
    num_stages=1,
    strides=(1,),
    dilations=(1,),
    out_indices=(0,),
)


@pytest.fixture
def layer_class(monkeypatch):
    """H inside T, which no layer of the paper is."""
    monkeypatch.setitem(ops.LAYERS, 'HinT', ops.GateAxes(inner='H', outer='T'))

    class HinT(ContextAttention):
        axes = ops.LAYERS['HinT']

    MODELS.register_module(module=HinT)
    yield HinT
    MODELS.module_dict.pop('HinT')


def test_its_equations(layer_class):
    layer, x = layer_class().eval(), torch.randn(2, 3, 4, 5, 6)
    z = x * layer.gate_h(x)
    torch.testing.assert_close(layer(x), x * layer.gate_t(z))


def test_it_starts_as_a_nested_layer_does(layer_class):
    layer = layer_class()
    assert (layer.gate_h.outer, layer.gate_t.outer) == (False, True)


@needs_fast_paths
@pytest.mark.parametrize('training', [True, False])
def test_the_fast_path_computes_it(layer_class, training):
    layer = layer_class(num_segments=4, impl='fused').train(training)
    x, grad = torch.randn(2, 8, 6, 5, 7)
    assert deviations(layer, x, grad) == {}


@needs_fast_paths
def test_a_path_that_does_not_know_its_gates_says_so(layer_class, monkeypatch):
    monkeypatch.setattr(dispatch, '_HAS_TRITON', True)
    monkeypatch.setattr(dispatch, '_INTERPRETS_TRITON', True)
    x = torch.randn(2, 3, 4, 5, 6)
    with pytest.raises(RuntimeError, match='C and THW gates, and not H and T'):
        layer_class(impl='triton')(x)
    assert layer_class()(x).shape == x.shape


def test_a_config_names_it(layer_class):
    plugins = [dict(cfg=dict(type='HinT'))]
    backbone = AIAResNet(plugins=plugins, **RESNET18)
    assert sum(isinstance(m, layer_class) for m in backbone.modules()) == 2
    with pytest.raises(ValueError, match="HinT.* Did you mean 'HinT'"):
        AIAResNet(plugins=[dict(cfg=dict(type='hint'))], **RESNET18)
