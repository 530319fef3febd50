import copy
from functools import partial
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from aia_mmaction import ChannelContext, CinST, SpatioTemporalContext, STinC
from aia_mmaction.ops import dispatch, fused, operator
from aia_mmaction.ops.parity import deviations
from aia_mmaction.ops.specification import Specification

HAS_NUMBA = find_spec('numba') is not None
LAYERS = [ChannelContext, SpatioTemporalContext, CinST, STinC]
# Odd sizes; one frame; blocks of the banded convolution that are whole, and
# that are not; an axis of one.
SHAPES = [(1, 3, 1, 4, 7), (2, 17, 4, 9, 7), (2, 28, 3, 1, 2), (1, 5, 16, 15, 29)]


def build(cls, impl, training=True, **kwargs):
    """A layer whose norms do not start at zero and one."""
    layer = cls(impl=impl, **kwargs).train(training)
    for gate in layer.children():
        nn.init.normal_(gate.norm.bias)
        nn.init.uniform_(gate.norm.weight, 0.5, 2)
        nn.init.normal_(gate.norm.running_mean)
        nn.init.uniform_(gate.norm.running_var, 0.5, 2)
    return layer


def data(shape, dtype=torch.float32):
    return torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)


def assert_inplace_is_the_same(layer, layout):
    x = torch.randn(8, 6, 15, 13)
    if layout == 'NCTHW':
        x = x.view(2, 6, 4, 15, 13)
    elif layout == 'channels_last':
        x = x.contiguous(memory_format=torch.channels_last)
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        expected = layer(x).relu()
        strides = x.stride()
        assert twin(x, nn.ReLU(inplace=True)) is x
    assert x.stride() == strides
    torch.testing.assert_close(x, expected)
    for got, buffer in zip(twin.buffers(), layer.buffers()):
        torch.testing.assert_close(got, buffer)


@pytest.fixture
def calls(monkeypatch):
    """Names of the implementations' functions that ran."""
    calls = []
    implementation = operator._implementation

    def record(path, name, *args):
        calls.append(f'{path}.{name}')
        return getattr(implementation(path), name)(*args)

    monkeypatch.setattr(
        operator,
        '_implementation',
        lambda path: SimpleNamespace(
            forward=partial(record, path, 'forward'),
            forward_inplace=partial(record, path, 'forward_inplace'),
            backward=partial(record, path, 'backward'),
            new_saved=implementation(path).new_saved,
        ),
    )
    return calls


class TestFused:
    @pytest.mark.parametrize('training', [True, False])
    @pytest.mark.parametrize('shape', SHAPES)
    @pytest.mark.parametrize(
        'dtype', [torch.float64, torch.float32, torch.float16, torch.bfloat16]
    )
    @pytest.mark.parametrize('cls', LAYERS)
    def test_parity(self, cls, dtype, shape, training):
        layer = build(cls, 'fused', training)
        if dtype == torch.float64:
            layer.double()
        assert deviations(layer, *data(shape, dtype)) == {}

    @pytest.mark.parametrize(
        'layout', [torch.contiguous_format, torch.channels_last, 'strided']
    )
    @pytest.mark.parametrize('cls', LAYERS)
    def test_parity_with_folded_frames(self, cls, layout):
        layer = build(cls, 'fused', num_segments=4)
        x, grad = data((8, 6, 5, 7))
        if layout == 'strided':
            x = torch.randn(8, 12, 5, 14)[:, ::2, :, 1::2]
        else:
            x = x.contiguous(memory_format=layout)
            assert layer(x).is_contiguous(memory_format=layout)
        assert deviations(layer, x, grad) == {}

    @pytest.mark.parametrize('cls', LAYERS)
    def test_of_equal_maxima_the_same_gets_the_gradient(self, cls):
        """Behind a ReLU most maxima are shared."""
        layer = build(cls, 'fused').double()
        x, grad = data((2, 5, 4, 6, 3), torch.float64)
        x[x < 1] = 0
        assert deviations(layer, x, grad) == {}

    @pytest.mark.parametrize('cls', LAYERS)
    def test_runs_by_default(self, cls, calls, monkeypatch):
        monkeypatch.setattr(dispatch, '_HAS_NUMBA', False)
        x = torch.randn(2, 3, 4, 5, 6, requires_grad=True)
        cls()(x).sum().backward()
        assert calls == ['fused.forward', 'fused.backward']

    @pytest.mark.parametrize('training', [True, False])
    @pytest.mark.parametrize('layout', ['NCTHW', 'NCHW', 'channels_last'])
    @pytest.mark.parametrize('cls', LAYERS)
    def test_inplace(self, cls, layout, training, calls):
        layer = build(cls, 'fused', training, num_segments=4)
        assert_inplace_is_the_same(layer, layout)
        assert calls == ['fused.forward', 'fused.forward_inplace']

    def test_slice_by_slice(self, monkeypatch):
        x = torch.randn(2, 17, 4, 9, 7)
        layer = build(CinST, 'fused')
        expected = layer(x)
        monkeypatch.setattr(fused, 'SLICE', 2 * 5 * 4 * 9 * 7)  # 5 channels
        assert torch.equal(layer(x), expected)

    def test_no_inplace_where_gradients_are_needed(self):
        """Neither of the input nor of the weights."""
        layer, relu = CinST(), nn.ReLU(inplace=True)
        x = torch.randn(2, 3, 4, 5, 6)
        before = x.clone()
        layer(x, relu).sum().backward()
        assert torch.equal(x, before)
        layer.requires_grad_(False)
        layer(x.requires_grad_(), relu).sum().backward()
        assert torch.equal(x, before)

    @pytest.mark.parametrize(
        'activation',
        [
            nn.ReLU(),
            nn.ReLU6(inplace=True),
            nn.Hardswish(),
            nn.Sequential(nn.ReLU(inplace=True)),
        ],
    )
    @pytest.mark.parametrize('impl', ['fused', 'reference'])
    def test_activation(self, activation, impl):
        layer = build(CinST, impl).double()
        x, grad = data((2, 3, 4, 5, 6), torch.float64)
        results = []
        for function in (
            partial(layer, activation=activation),
            lambda x: activation(layer(x)),
        ):
            leaf = x.clone().requires_grad_()
            out = function(leaf)
            out.backward(grad)
            with torch.no_grad():
                results.append([out, leaf.grad, function(x.clone())])
        torch.testing.assert_close(*results)

    def test_activation_with_a_hook(self):
        """Who looks at the activation with hooks, sees it."""
        relu, seen = nn.ReLU(), []
        relu.register_forward_hook(lambda *args: seen.append(args[2]))
        x = torch.randn(2, 3, 4, 5, 6)
        out = CinST()(x, relu)
        assert torch.equal(seen[0], out)

    def test_every_input_gets_a_gradient(self):
        layer = CinST()
        x = torch.randn(2, 3, 4, 5, 6, requires_grad=True)
        layer(x).square().sum().backward()
        for tensor in (x, *layer.parameters()):
            assert tensor.grad.abs().max() > 0

    def test_frozen_weights_and_frozen_input(self):
        layer, x = CinST(), torch.randn(2, 3, 4, 5, 6)
        layer(x).sum().backward()
        assert layer.gate_c.conv.weight.grad is not None
        layer.requires_grad_(False).zero_grad()
        x.requires_grad_()
        layer(x).sum().backward()
        assert x.grad is not None
        assert layer.gate_c.conv.weight.grad is None

    def test_cumulative_statistics(self):
        """``momentum=None`` of a norm averages over all batches."""
        norm_cfg = dict(type='BN3d', momentum=None)
        layer = build(CinST, 'fused', norm_cfg=norm_cfg).double()
        twin = copy.deepcopy(layer)
        twin.impl = 'reference'
        for _ in range(3):
            x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
            layer(x), twin(x)
        for got, expected in zip(layer.buffers(), twin.buffers()):
            torch.testing.assert_close(got, expected)

    def test_norm_without_statistics(self):
        norm_cfg = dict(type='BN3d', track_running_stats=False)
        layer = CinST(impl='fused', norm_cfg=norm_cfg).eval()
        twin = copy.deepcopy(layer)
        twin.impl = 'reference'
        x = torch.randn(2, 3, 4, 5, 6)
        torch.testing.assert_close(layer(x), twin(x))

    @pytest.mark.parametrize('training', [True, False])
    @pytest.mark.parametrize('cls', LAYERS)
    def test_double_backward(self, cls, training):
        layer = build(cls, 'fused', training, num_segments=2).double()
        x = torch.randn(4, 2, 3, 2, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(layer, (x,))
        layer = partial(layer, activation=nn.ReLU())
        assert torch.autograd.gradgradcheck(layer, (x,))

    def test_double_backward_through_the_norm_before(self):
        layer = build(CinST, 'fused', num_segments=2)
        norm = nn.Sequential(nn.BatchNorm2d(2), layer).double()
        x = torch.randn(4, 2, 3, 2, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(norm, (x,))

    @pytest.mark.parametrize('use_reentrant', [True, False])
    def test_gradient_checkpointing(self, use_reentrant):
        layer = build(CinST, 'fused', training=False)
        x, grad = data((2, 3, 4, 5, 6))
        results = []
        for function in (
            layer,
            partial(
                torch.utils.checkpoint.checkpoint, layer, use_reentrant=use_reentrant
            ),
        ):
            leaf = x.clone().requires_grad_()
            function(leaf).backward(grad)
            results.append(leaf.grad)
        assert torch.equal(*results)


class Network(nn.Module):
    """Two frames of a 2-D network, with its activation in place."""

    def __init__(self, impl='auto'):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.first = build(CinST, impl, num_segments=2)
        self.relu = nn.ReLU(inplace=True)
        self.second = build(STinC, impl, num_segments=2)

    def forward(self, x):
        x = self.first(self.norm(self.conv(x)))
        return self.second(self.relu(x))


def test_running_statistics_of_each_norm_by_itself():
    """All of them use those of the batch; not all of them have others."""
    results = []
    for impl in ('reference', 'fused'):
        torch.manual_seed(0)
        layer = CinST(impl=impl)
        norm = torch.nn.BatchNorm3d(1, track_running_stats=False)
        layer.gate_h.norm = norm.eval()
        results.append([layer(torch.randn(2, 3, 4, 5, 6)), *layer.buffers()])
    torch.testing.assert_close(*results)
    assert len(results[0]) == 1 + 3 * 3


class TestGraphs:
    @pytest.mark.slow
    def test_compile_without_graph_break(self, calls):
        network = Network()
        twin = copy.deepcopy(network)
        for module in twin.modules():
            if hasattr(module, 'impl'):
                module.impl = 'fused'
        as_one = torch.compile(network, fullgraph=True, backend='aot_eager')
        results = []
        for function in (as_one, twin):
            torch.manual_seed(0)
            x = torch.randn(4, 3, 9, 7, requires_grad=True)
            out = function(x)
            out.square().sum().backward()
            results.append([out, x.grad])
        for module in (network, twin):
            results.append(
                [p.grad for p in module.parameters()] + list(module.buffers())
            )
        torch.testing.assert_close(results[0], results[1])
        torch.testing.assert_close(results[2], results[3])
        # The layer is one operator, on the path that it takes by itself.
        path = 'numba' if HAS_NUMBA else 'fused'
        assert set(calls[:4]) == {f'{path}.forward', f'{path}.backward'}
        assert set(calls[4:]) == {'fused.forward', 'fused.backward'}

    @pytest.mark.slow
    def test_compile_for_any_size(self):
        """What the path saves has the size of the input, which has no number."""
        layer = CinST(num_segments=2)
        compiled = torch.compile(
            copy.deepcopy(layer), fullgraph=True, backend='aot_eager', dynamic=True
        )
        for shape in [(4, 3, 9, 7), (8, 3, 6, 5)]:
            inputs = [torch.randn(shape, requires_grad=True)]
            inputs.append(inputs[0].detach().clone().requires_grad_())
            for function, x in zip((layer, compiled), inputs):
                function(x).square().sum().backward()
            torch.testing.assert_close(inputs[0].grad, inputs[1].grad)

    @pytest.mark.parametrize('strict', [False, True])
    def test_export_by_default_needs_pytorch_alone(self, strict):
        if strict and torch.__version__ < '2.13':
            pytest.skip('its Dynamo may not tell that it exports')
        network = Network().eval()
        x = torch.randn(4, 3, 9, 7)
        program = torch.export.export(network, (x,), strict=strict)
        assert 'aia_mmaction' not in str(program.graph)
        torch.testing.assert_close(program.module()(x), network(x))

    def test_export_of_a_named_path(self):
        network = Network('fused').eval()
        x = torch.randn(4, 3, 9, 7)
        program = torch.export.export(network, (x,))
        assert str(program.graph).count('aia_mmaction.attention.default') == 2
        torch.testing.assert_close(program.module()(x), network(x))

    def test_torchscript_trace(self):
        network = Network().eval()
        x, other = torch.randn(2, 4, 3, 9, 7)
        traced = torch.jit.trace(network, x)
        assert 'aia_mmaction::' not in str(traced.inlined_graph)
        torch.testing.assert_close(traced(other), network(other))

    @pytest.mark.parametrize('dims', [4, 5])
    @pytest.mark.parametrize('stats', [True, False])
    def test_operator_is_well_behaved(self, stats, dims):
        """PyTorch's own checks: schema, fakes, autograd, ATen dispatch."""
        weight, scale, shift = (
            torch.randn(shape, requires_grad=True)
            for shape in [(4, 2, 3, 3, 3), (4,), (4,)]
        )
        spec = Specification('C', 'THW', 2, 1e-5, batch_stats=not stats, relu=True)
        rest = torch.rand(4, 2) if stats else None, *spec
        x = torch.randn((4, 3, 5, 6) if dims == 4 else (2, 3, 2, 5, 6))
        torch.library.opcheck(
            torch.ops.aia_mmaction.attention.default,
            (x.requires_grad_(), weight, scale, shift, *rest, True, 'fused'),
        )
        detached = (t.detach() for t in (x, weight, scale, shift))
        torch.library.opcheck(
            torch.ops.aia_mmaction.attention_.default, (*detached, *rest, 'fused')
        )
