"""Layers that are not of this package, by the same line of config."""

import re
from importlib.util import find_spec

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.model import BaseModule
from mmengine.optim import build_optim_wrapper
from torch import nn

from aia_mmaction import insert_plugins
from aia_mmaction.plugins import attention_layers

from ..conftest import REPO
from .conftest import build_aia, build_plain, make_input

MMCV = {
    'NonLocal2d': dict(type='NonLocal2d', sub_sample=True),
    'ContextBlock': dict(type='ContextBlock', ratio=1 / 4),
}
FRAMES = torch.randn(4, 3, 64, 64)  # NonLocal2d halves the last map, of 2 x 2


@pytest.fixture
def register():
    """Register a class until the test is over."""
    names = []

    def add(cls):
        MODELS.register_module(module=cls)
        names.append(cls.__name__)
        return [dict(cfg=dict(type=cls.__name__))]

    yield add
    for name in names:
        MODELS.module_dict.pop(name)


class Told(nn.Module):
    """Looks at what it is told, as a user's own layer would."""

    def __init__(self, in_channels, num_segments=None, scale=1.0):
        super().__init__()
        self.told = in_channels, num_segments
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x):
        self.saw = x.shape
        assert x.shape[1] == self.told[0]
        return x * self.scale


class Frames(nn.Module):
    """Knows of no clips."""

    def forward(self, x):
        self.saw = x.shape
        return x


@pytest.mark.parametrize('network', ['tsn', 'tsn50', 'tsm', 'r2plus1d'])
def test_a_layer_is_told_what_its_signature_has(register, network):
    model = build_aia(network, plugins=register(Told)).eval()
    model(make_input(network))
    layers = [layer for _, layer in attention_layers(model)]
    segments = None if network == 'r2plus1d' else model.num_segments
    assert {layer.told[1] for layer in layers} == {segments}
    assert {len(layer.saw) for layer in layers} == {5 if segments is None else 4}


def test_the_layer_in_the_docs():
    text = (REPO / 'docs' / 'backbones.md').read_text()
    (code,) = re.findall(r'```python\n# my_attention.py.*?\n(.*?)```', text, re.S)
    try:
        exec(code, {})
        model = build_aia('tsn', plugins=[dict(cfg=dict(type='FrameGate'))])
    finally:
        MODELS.module_dict.pop('FrameGate')
    model(make_input('tsn')).sum().backward()
    assert all(layer.conv.weight.grad.any() for _, layer in attention_layers(model))


def test_every_position_has_its_channels(register):
    (entry,) = register(Told)
    for position in ('after_norm1', 'after_norm3', 'after_conv2'):
        plugins = [dict(entry, position=position)]
        build_aia('tsn50', plugins=plugins).eval()(make_input('tsn50'))


def test_options_of_the_config(register):
    plugins = register(Told)
    plugins[0]['cfg']['scale'] = 3.0
    model = build_aia('tsn', plugins=plugins)
    assert {layer.scale.item() for _, layer in attention_layers(model)} == {3.0}
    plugins[0]['cfg']['scales'] = 3.0
    with pytest.raises(TypeError, match='Told takes in_channels, num_segments, scale'):
        build_aia('tsn', plugins=plugins)


def test_branches_are_told_too(register):
    told = register(Told)[0]['cfg']
    cfg = dict(type='ParallelAttention', branches=[told, dict(type='CinST'), told])
    model = build_aia('tsn', plugins=[dict(cfg=cfg)]).eval()
    model(make_input('tsn'))
    first = attention_layers(model)[0][1].branches[0]
    assert first.told == (64, model.num_segments)


def test_without_clips_num_segments_is_not_asked_for(register):
    model = insert_plugins(build_plain('tsn'), register(Frames)).eval()
    model(torch.randn(3, 3, 32, 32))  # of no number of frames
    assert {layer.saw[0] for _, layer in attention_layers(model)} == {3}


def test_what_init_cfg_says(register):
    """MMEngine's modules are not initialised when they are built."""

    class Sevens(BaseModule):
        def __init__(self, in_channels):
            super().__init__(init_cfg=dict(type='Constant', layer='Conv2d', val=7))
            self.conv = nn.Conv2d(in_channels, 1, 1)

        def forward(self, x):
            return x * self.conv(x).sigmoid()

    model = build_aia('tsn', plugins=register(Sevens))
    for _ in range(2):  # as built, and after the backbone's own initialisation
        for _, layer in attention_layers(model):
            assert (layer.conv.weight == 7).all()
        model.init_weights()


@pytest.mark.parametrize('cfg', MMCV.values(), ids=MMCV)
class TestOfMMCV:
    def test_initial_weights(self, cfg):
        """A backbone's initialisation leaves them; here they change nothing."""
        model = build_aia('tsn', plugins=[dict(cfg=cfg)])
        before = [
            {k: v.clone() for k, v in layer.state_dict().items()}
            for _, layer in attention_layers(model)
        ]
        model.init_weights()
        for state, (_, layer) in zip(before, attention_layers(model)):
            for key, value in layer.state_dict().items():
                assert torch.equal(value, state[key]), key
        plain = build_plain('tsn')
        plain.load_state_dict(model.state_dict(), strict=False)
        plain.eval(), model.eval()
        torch.testing.assert_close(model(FRAMES), plain(FRAMES))

    @pytest.mark.parametrize('constructor', [None, 'TSMOptimWrapperConstructor'])
    def test_every_parameter_learns(self, cfg, constructor):
        model = nn.Sequential(
            build_aia('tsm', plugins=[dict(cfg=cfg)]), nn.Flatten(), nn.LazyLinear(2)
        ).train()
        model(FRAMES)
        options = dict(optimizer=dict(type='SGD', lr=1.0, momentum=0.9))
        if constructor:
            options.update(constructor=constructor, paramwise_cfg=dict(fc_lr5=True))
        wrapper = build_optim_wrapper(model, options)
        found = [p for g in wrapper.optimizer.param_groups for p in g['params']]
        assert {id(p) for p in found} == {id(p) for p in model.parameters()}
        assert len(found) == len(list(model.parameters()))

    def test_norm_eval_is_of_the_pretrained_norms(self, cfg):
        model = build_aia('tsn', plugins=[dict(cfg=cfg)], norm_eval=True).train()
        layers = [layer for _, layer in attention_layers(model)]
        assert all(m.training for layer in layers for m in layer.modules())
        assert not model.layer1[0].conv1.bn.training

    def test_plain_checkpoint(self, cfg, capfd):
        model = build_aia('tsn', plugins=[dict(cfg=cfg)])
        model.load_state_dict(build_plain('tsn').state_dict(), strict=False)
        keys = sum(len(layer.state_dict()) for _, layer in attention_layers(model))
        printed = ''.join(capfd.readouterr())
        assert f'{keys} of {keys} keys of the attention are not in' in printed


@pytest.mark.skipif(find_spec('timm') is not None, reason='timm is here')
def test_timm_is_missing():
    with pytest.raises(ImportError, match='expected timm and a torchvision.*docs/'):
        build_aia('tsn', plugins=[dict(cfg=dict(type='TimmAttention', attn_type='se'))])
