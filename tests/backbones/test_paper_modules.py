"""The ten modules of the paper's study, in the blocks of a network."""

import copy

import pytest
import torch
from torch import nn

from aia_mmaction.layers import ContextAttention
from aia_mmaction.plugins import PAPER_MODULES, attention_layers

from ..conftest import exhaustive_but
from ..layers.test_attention import assert_close, numpy_layer, to_5d
from .conftest import build_aia, build_plain, make_input

# The paper's definitions, of the layers in the order of the name.
MEANING = {
    'C': lambda x, c: c(x),
    'ST': lambda x, st: st(x),
    'C2ST': lambda x, c, st: st(c(x)),
    'ST2C': lambda x, st, c: c(st(x)),
    'CplusST': lambda x, c, st: (c(x) + st(x)) / 2,
    'CinST': lambda x, cinst: cinst(x),
    'STinC': lambda x, stinc: stinc(x),
    'CinST2STinC': lambda x, cinst, stinc: stinc(cinst(x)),
    'STinC2CinST': lambda x, stinc, cinst: cinst(stinc(x)),
    'STinCplusCinST': lambda x, stinc, cinst: (stinc(x) + cinst(x)) / 2,
}
LAYERS = dict(
    C='ChannelContext', ST='SpatioTemporalContext', CinST='CinST', STinC='STinC'
)


@pytest.fixture(
    params=exhaustive_but(['C2ST', 'CinST', 'STinCplusCinST'], PAPER_MODULES)
)
def module(request):
    return request.param


def random_block(module):
    """The second convolution of a block, in float64, and its layers."""
    conv2 = build_aia('tsn50', plugins=module).layer1[0].conv2.double()
    layers = [m for m in conv2.modules() if isinstance(m, ContextAttention)]
    for layer in layers:
        for gate in layer.children():
            nn.init.normal_(gate.norm.bias)
            nn.init.uniform_(gate.norm.running_var, 0.5, 2)
    return conv2, layers


def test_layers_are_those_of_the_name(module):
    _, layers = random_block(module)
    names = module.replace('plus', '2').split('2')
    assert [type(m).__name__ for m in layers] == [LAYERS[n] for n in names]


def test_evaluation_equals_numpy(module):
    conv2, layers = random_block(module)
    conv2.eval()
    x = torch.randn(8, 64, 6, 5, dtype=torch.float64)  # 2 clips of 4 frames
    with torch.no_grad():
        z = to_5d(conv2.bn(conv2.conv(x)), 4).numpy()
        expected = MEANING[module](
            z, *(lambda y, m=m: numpy_layer(y, m) for m in layers)
        )
        got = to_5d(conv2(x), 4)
    assert_close(got, torch.as_tensor(expected).relu())


def test_training_equals_its_layers(module):
    """Output, gradients and running statistics of layers that stand alone."""
    conv2, layers = random_block(module)
    alone = copy.deepcopy(conv2)
    alone_layers = [m for m in alone.modules() if isinstance(m, ContextAttention)]
    x = torch.randn(8, 64, 6, 5, dtype=torch.float64)
    got = conv2(x)
    expected = MEANING[module](alone.bn(alone.conv(x)), *alone_layers).relu()
    assert_close(got.detach(), expected.detach())
    grad_output = torch.randn_like(got)
    got.backward(grad_output)
    expected.backward(grad_output)
    for (name, p), q in zip(conv2.named_parameters(), alone.parameters()):
        assert p.grad.abs().max() > 0, name
        assert_close(p.grad, q.grad)
    for b, c in zip(conv2.buffers(), alone.buffers()):
        assert torch.equal(b, c)


def test_name_is_its_list_of_entries(module):
    by_name = build_aia('tsn', plugins=module).eval()
    by_list = build_aia('tsn', plugins=PAPER_MODULES[module]).eval()
    x = make_input('tsn')
    assert torch.equal(by_name(x), by_list(x))


def test_unknown_name():
    with pytest.raises(ValueError, match="got 'CinTS'. Did you mean 'CinST'"):
        build_aia('tsn', plugins='CinTS')


@pytest.mark.usefixtures('on_meta')
@pytest.mark.parametrize('module', exhaustive_but(['STinCplusCinST'], PAPER_MODULES))
def test_in_every_network(module, network):
    model = build_aia(network, plugins=module)
    entries = len(PAPER_MODULES[module])
    blocks = len(attention_layers(build_aia(network)))
    assert len(attention_layers(model)) == entries * blocks
    assert set(build_plain(network).state_dict()) < set(model.state_dict())
