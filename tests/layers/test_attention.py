from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmaction.models import ResNet
from mmaction.registry import MODELS
from scipy.ndimage import correlate
from torch import nn

from aia_mmaction import (
    ChannelContext,
    CinST,
    ParallelAttention,
    SpatioTemporalContext,
    STinC,
    insert_plugins,
)

from ..conftest import needs_fast_paths

LAYERS = {
    'C': ChannelContext,
    'ST': SpatioTemporalContext,
    'CinST': CinST,
    'STinC': STinC,
}
GOLDEN = dict(np.load(Path(__file__).parent.parent / 'data' / 'golden_modules.npz'))
# Bounds on |got - expected| / max |expected|
FLOAT64_TOLERANCE = 1e-9

each_impl = pytest.mark.parametrize(
    'impl', ['reference', pytest.param('fused', marks=needs_fast_paths)]
)


def golden(layer, case, key):
    return torch.as_tensor(GOLDEN[f'{layer}/{case}/{key}'])


def authors_name(name):
    """'gate_c.norm.weight' to 'C_bn.weight'."""
    gate, module, tensor = name.split('.')
    module = {'conv': 'conv', 'norm': 'bn'}[module]
    return f'{gate[-1].upper()}_{module}.{tensor}'


def load_golden(layer, case, impl='auto'):
    num_segments = int(golden(layer, case, 'num_segments'))
    module = LAYERS[layer](num_segments, impl=impl).double()
    module.load_state_dict(
        {
            name: golden(layer, case, f'param/{authors_name(name)}')
            for name in module.state_dict()
        }
    )
    return module


def assert_close(got, expected):
    error = (got - expected).abs().max() / expected.abs().max()
    assert error <= FLOAT64_TOLERANCE, float(error)


def to_5d(x, num_segments):
    # [N * T, C, H, W] -> [N, C, T, H, W]
    return x.unflatten(0, (-1, num_segments)).transpose(1, 2).contiguous()


@pytest.mark.parametrize('dims', [4, 5])
@pytest.mark.parametrize('mode', ['eval', 'train'])
@pytest.mark.parametrize('case', [0, 1])
@each_impl
@pytest.mark.parametrize('layer', LAYERS)
def test_equals_authors_code(layer, impl, case, mode, dims):
    module = load_golden(layer, case, impl).train(mode == 'train')
    num_segments = module.num_segments
    x, grad_output, y, grad_x = (
        golden(layer, case, key)
        for key in ('x', 'grad_output', f'{mode}/y', f'{mode}/grad_x')
    )
    if dims == 5:
        x, grad_output, y, grad_x = (
            to_5d(t, num_segments) for t in (x, grad_output, y, grad_x)
        )
        module.num_segments = None
    x.requires_grad_()

    got = module(x)
    got.backward(grad_output)

    assert_close(got.detach(), y)
    assert_close(x.grad, grad_x)
    for name, parameter in module.named_parameters():
        assert_close(
            parameter.grad, golden(layer, case, f'{mode}/grad/{authors_name(name)}')
        )
    for name, buffer in module.named_buffers():
        if mode == 'eval':
            assert torch.equal(
                buffer, golden(layer, case, f'param/{authors_name(name)}')
            )
        else:
            assert_close(
                buffer, golden(layer, case, f'after_train/{authors_name(name)}')
            )


def numpy_gate(x, axis, module):
    """A gate in eval mode, written with NumPy and SciPy alone."""
    axis = 'CTHW'.index(axis)  # of x without its batch axis
    order = {0: (1, 2, 3), 1: (0, 2, 3), 2: (1, 0, 3), 3: (1, 2, 0)}[axis]
    weight = module.conv.weight.detach().numpy()[0]
    norm = module.norm
    gates = []
    for clip in x:
        pooled = [
            f(clip, axis=axis, keepdims=True).transpose(*order, axis)[..., 0]
            for f in (np.max, np.mean)
        ]
        z = sum(correlate(p, w, mode='constant') for p, w in zip(pooled, weight))
        z = (z - norm.running_mean.item()) / np.sqrt(norm.running_var.item() + norm.eps)
        z = z * norm.weight.item() + norm.bias.item()
        gate = 1 / (1 + np.exp(-z))
        gates.append(np.expand_dims(gate, 3).transpose(np.argsort([*order, axis])))
    return np.stack(gates)


def numpy_layer(x, module):
    """A layer in eval mode, arXiv 2204.09303, section III."""

    def c(z):
        return numpy_gate(z, 'C', module.gate_c)

    def st(z):
        return (
            sum(
                numpy_gate(z, axis, getattr(module, f'gate_{axis.lower()}'))
                for axis in 'THW'
            )
            / 3
        )

    return {
        ChannelContext: lambda: x * c(x),
        SpatioTemporalContext: lambda: x * st(x),
        CinST: lambda: x * st(x * c(x)),
        STinC: lambda: x * c(x * st(x)),
    }[type(module)]()


@each_impl
@pytest.mark.parametrize(
    'shape', [(1, 3, 1, 4, 7), (2, 1, 5, 6, 3), (1, 5, 3, 1, 2), (3, 4, 2, 5, 5)]
)
def test_equals_numpy_on_odd_sizes(shape, impl):
    x = torch.randn(shape, dtype=torch.float64)
    layers = {name: cls(impl=impl).double().eval() for name, cls in LAYERS.items()}
    for module in layers.values():
        for gate in module.children():
            nn.init.normal_(gate.norm.bias)
            nn.init.uniform_(gate.norm.running_var, 0.5, 2)
    for module in layers.values():
        assert_close(
            module(x).detach(), torch.as_tensor(numpy_layer(x.numpy(), module))
        )


@pytest.mark.parametrize('training', [False, True])
@each_impl
@pytest.mark.parametrize('layer', LAYERS)
def test_gradcheck(layer, impl, training):
    module = LAYERS[layer](num_segments=3, impl=impl).double().train(training)
    x = torch.randn(6, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    names, values = zip(*module.named_parameters())

    def f(x, *values):
        return torch.func.functional_call(module, dict(zip(names, values)), x)

    assert torch.autograd.gradcheck(f, (x, *values))


@pytest.mark.parametrize(
    'dtype',
    [
        # PyTorch < 2.4 has no convolution of float16 on CPUs.
        pytest.param(torch.float16, marks=needs_fast_paths),
        torch.bfloat16,
    ],
)
@pytest.mark.parametrize('layer', LAYERS)
def test_half_precision(layer, dtype):
    module = LAYERS[layer](num_segments=4)
    x = torch.randn(8, 6, 5, 7)
    expected = module(x).detach()
    x = x.to(dtype).requires_grad_()
    got = module.to(dtype)(x)
    got.sum().backward()
    assert got.dtype == dtype
    assert torch.isfinite(x.grad).all()
    # bfloat16 keeps 8 bits, and a gate goes through a dozen operations
    assert (got.float() - expected).abs().max() <= 0.05


@pytest.mark.parametrize('layer', LAYERS)
def test_autocast(layer):
    module = LAYERS[layer](num_segments=4)
    x = torch.randn(8, 6, 5, 7, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        got = module(x)
    got.float().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert (got - module(x)).abs().max() <= 0.05


@pytest.mark.parametrize('layer', LAYERS)
def test_memory_layouts(layer):
    module = LAYERS[layer](num_segments=4).double()
    x = torch.randn(8, 6, 5, 7, dtype=torch.float64)
    expected = module(x)
    assert expected.is_contiguous()

    channels_last = x.contiguous(memory_format=torch.channels_last)
    got = module(channels_last)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert_close(got, expected)

    strided = torch.randn(8, 12, 5, 14, dtype=torch.float64)[:, ::2, :, 1::2]
    strided.copy_(x)
    assert not strided.is_contiguous()
    assert_close(module(strided), expected)


def test_clips_do_not_mix():
    module = CinST(num_segments=4).eval()
    clips = torch.randn(3 * 4, 5, 6, 6)
    alone = torch.cat([module(clip) for clip in clips.split(4)])
    torch.testing.assert_close(module(clips), alone)


def test_initialisation():
    torch.manual_seed(0)
    weights = {'cinst': [], 'stinc': []}
    for _ in range(200):
        for name, cls in (('cinst', CinST), ('stinc', STinC)):
            weights[name].append([g.conv.weight for g in cls().children()])
    kaiming, xavier = (2 / 27) ** 0.5, (2 / (54 + 27)) ** 0.5
    for name, expected in (
        ('cinst', [kaiming] + [xavier] * 3),
        ('stinc', [xavier] + [kaiming] * 3),
    ):
        for axis, std in enumerate(expected):
            sample = torch.stack([w[axis] for w in weights[name]])
            # 10,800 draws: the standard error of std is 0.7 %
            assert sample.std().item() == pytest.approx(std, rel=0.03)


class TestParallelAttention:
    def test_is_the_mean_of_its_branches(self):
        module = ParallelAttention(
            [dict(type='ChannelContext'), dict(type='SpatioTemporalContext')],
            num_segments=8,
        ).double()
        c, st = (load_golden(layer, 0) for layer in ('C', 'ST'))
        module.branches[0].load_state_dict(c.state_dict())
        module.branches[1].load_state_dict(st.state_dict())
        x = golden('C', 0, 'x')
        module.eval()
        expected = (golden('C', 0, 'eval/y') + st.eval()(x)) / 2
        assert_close(module(x).detach(), expected.detach())

    def test_needs_a_branch(self):
        with pytest.raises(ValueError, match='at least one branch, got none'):
            MODELS.build(dict(type='ParallelAttention', branches=[]))


class TestBadInput:
    def test_three_dimensions(self):
        with pytest.raises(ValueError, match='got 3-D features'):
            CinST(num_segments=2)(torch.randn(2, 3, 4))

    def test_integers(self):
        with pytest.raises(TypeError, match='got torch.int64.*x.float()'):
            CinST(num_segments=2)(torch.ones(2, 3, 4, 4, dtype=torch.int64))

    def test_broken_clips(self):
        with pytest.raises(
            ValueError, match='num_segments=8 frames, got a batch of 12'
        ):
            CinST(num_segments=8)(torch.randn(12, 3, 4, 4))

    def test_folded_frames_without_num_segments(self):
        with pytest.raises(ValueError, match='expected num_segments'):
            CinST()(torch.randn(8, 3, 4, 4))

    @pytest.mark.parametrize('num_segments', [0, -1, 2.5, '8'])
    def test_num_segments(self, num_segments):
        with pytest.raises(ValueError, match='positive int'):
            MODELS.build(dict(type='STinC', num_segments=num_segments))


class TestIdentity:
    """``init='identity'``, for networks that are trained already."""

    @pytest.mark.parametrize('mode', ['eval', 'train'])
    @pytest.mark.parametrize('name', LAYERS)
    def test_input_stays_about_as_it_is(self, name, mode):
        x = torch.randn(8, 16, 14, 14).relu()
        changes = {}
        for init in ('paper', 'identity'):
            torch.manual_seed(0)
            layer = LAYERS[name](4, init=init).train(mode == 'train')
            layer.init_weights()
            changes[init] = ((layer(x) - x).norm() / x.norm()).item()
        assert changes['paper'] > 0.3
        assert changes['identity'] < 0.1

    @pytest.mark.parametrize('mode', ['eval', 'train'])
    def test_network_stays_about_as_it_is(self, mode):
        """ResNet-18, whose norms have the statistics of what they see."""
        torch.manual_seed(0)
        network = ResNet(18)
        x = torch.randn(8, 3, 64, 64)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1  # the next pass alone counts
        network(x)
        network.train(mode == 'train')
        changes = {}
        for init in ('paper', 'identity'):
            cfg = dict(type='CinST', init=init)
            attended = insert_plugins(deepcopy(network), [dict(cfg=cfg)], 8)
            plain, found = network(x), attended(x)
            changes[init] = ((found - plain).norm() / plain.norm()).item()
        assert changes['paper'] > 0.5
        # A trained ResNet changes less (docs/training.md).
        assert changes['identity'] < 0.15

    @pytest.mark.parametrize('name', LAYERS)
    def test_only_the_outer_biases_differ(self, name):
        states = []
        for init in ('paper', 'identity'):
            torch.manual_seed(0)
            states.append(LAYERS[name](init=init).state_dict())
        outer = [f'gate_{axis.lower()}' for axis in LAYERS[name].axes.outer]
        changed = {f'{gate}.norm.bias' for gate in outer}
        assert changed == {
            key for key, value in states[0].items() if not value.equal(states[1][key])
        }

    def test_arguments_are_checked(self):
        with pytest.raises(ValueError, match="one of paper, identity, got 'warm'"):
            CinST(init='warm')
        with pytest.raises(ValueError, match='expected a norm with weight and bias'):
            STinC(init='identity', norm_cfg=dict(type='BN3d', affine=False))
