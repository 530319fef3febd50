"""Without a GPU: ``TRITON_INTERPRET=1 pytest tests/ops/test_triton.py``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip('triton')

import aia_mmaction.ops.triton
from aia_mmaction import ChannelContext, CinST, STinC, ops
from aia_mmaction.benchmarking import gpu_resources
from aia_mmaction.ops import fused, reference
from aia_mmaction.ops.parameters import Parameters, unpack
from aia_mmaction.ops.parity import deviations
from aia_mmaction.ops.specification import Specification
from aia_mmaction.ops.triton import attention, kernels, plan

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
runs_kernels = pytest.mark.skipif(
    DEVICE == 'cpu' and not INTERPRETED,
    reason='no GPU; TRITON_INTERPRET=1 pytest tests/ops/test_triton.py runs '
    'the kernels on the CPU',
)


@pytest.fixture(autouse=True)
def no_plans_of_other_limits():
    plan.plan_of.cache_clear()


LAYERS = list(ops.LAYERS.values())
C, ST, C_IN_ST, _ = LAYERS
SHAPES = [(1, 3, 1, 4, 7), (2, 5, 3, 6, 5), (1, 17, 4, 1, 9), (1, 4, 8, 7, 7)]
EPS = 1e-5
# What storing a number can change it by, relatively. The interpreter does not
# round to bfloat16 but truncates.
ROUNDING = {
    torch.float32: 2**-24,
    torch.float16: 2**-11,
    torch.bfloat16: 2**-7 if INTERPRETED else 2**-8,
}


def random(*shape, dtype=torch.float32):
    return torch.randn(shape).to(DEVICE, dtype)


def parameters(layer, train):
    gates = len(layer.all())
    stats = torch.stack([torch.randn(gates) * 0.1, torch.rand(gates) + 0.5], 1)
    return Parameters(
        weight=random(gates, 2, 3, 3, 3) * 0.3,
        scale=(torch.rand(gates) + 0.5).to(DEVICE),
        shift=random(gates) * 0.1,
        stats=None if train else stats.to(DEVICE),
    )


def specification(layer, train, relu=False):
    return Specification(*layer, 0, EPS, batch_stats=train, relu=relu)


def double(parameters):
    return Parameters(*(t if t is None else t.double() for t in parameters))


def assert_close(got, expected, name):
    """To 1e-5 of the largest, besides what storing costs."""
    assert got.shape == expected.shape, name
    limit = expected.abs() * ROUNDING[got.dtype] + 1e-5 * expected.abs().max()
    error = (got.double() - expected).abs()
    assert (error <= limit).all(), f'{name}: off by {error.max():.2e}'


def check(layer, x, train, grad=None, expected=fused, relu=False):
    """Compare all results with float64's."""
    given, spec = parameters(layer, train), specification(layer, train, relu)
    grad = torch.randn_like(x) if grad is None else grad
    out, used, saved = attention.forward(x, given, spec, True)
    assert [t.numel() for t in saved] == [0, 0]
    with_stats = given._replace(stats=used)
    grads = attention.backward(grad, x, None, with_stats, spec, saved)
    for each in (out, grads[0]):
        assert each.dtype == x.dtype
        assert each.stride() == torch.empty_like(x).stride()
    assert used.dtype == torch.float32
    # An operator's results share no memory, neither with its inputs.
    tensors = [x, grad, *given, out, used, *grads]
    tensors = [t for t in tensors if t is not None]
    memory = {each.untyped_storage().data_ptr() for each in tensors}
    assert len(memory) == len(tensors)

    exact = double(given)
    expected_out, expected_used, saved = expected.forward(x.double(), exact, spec, True)
    exact = exact._replace(stats=expected_used)
    expected_grads = expected.backward(
        grad.double(), x.double(), None, exact, spec, saved
    )
    assert_close(out, expected_out, 'output')
    assert_close(used, expected_used, 'statistics')
    for name, g, e in zip(('x', 'weight', 'scale', 'shift'), grads, expected_grads):
        assert_close(g, e, f'gradient of {name}')


def by_reference(x, parameters, spec):
    out = reference.attention(x, spec.axes, unpack(parameters, spec))
    return out.relu() if spec.relu else out


class Reference:
    """The equations and autograd, in the form of :mod:`fused`."""

    @staticmethod
    def forward(x, parameters, spec, backward):
        _, used, saved = fused.forward(x, parameters, spec, backward)
        return by_reference(x, parameters, spec), used, saved

    @staticmethod
    def backward(grad, x, host_norm, parameters, spec, saved):
        inputs = [t.detach().requires_grad_() for t in (x, *parameters[:3])]
        differentiable = Parameters(*inputs[1:], parameters.stats)
        out = by_reference(inputs[0], differentiable, spec)
        return torch.autograd.grad(out, inputs, grad)


def frames(n, c, t, h, w, **kwargs):
    x = random(n * t, c, h, w).to(**kwargs)
    return x.unflatten(0, (n, t)).transpose(1, 2)


LAYOUTS = {
    'clips': random,
    'frames': frames,
    'channels_last': lambda *shape: frames(*shape, memory_format=torch.channels_last),
    'slice': lambda n, c, t, h, w: random(n, c + 1, t, 2 * h, w + 2)[
        :, 1:, :, ::2, 1:-1
    ],
    'transposed': lambda n, c, t, h, w: random(n, t, c, w, h).permute(0, 2, 1, 4, 3),
}


def name_of(layer):
    return f'{layer.inner}_{layer.outer}'


train_and_eval = pytest.mark.parametrize('train', [True, False], ids=['train', 'eval'])
every_layer = pytest.mark.parametrize('layer', LAYERS, ids=name_of)
nested_layers = pytest.mark.parametrize('layer', LAYERS[2:], ids=name_of)


@runs_kernels
@every_layer
class TestParity:
    @pytest.mark.parametrize('shape', SHAPES, ids=str)
    def test_with_fused(self, layer, shape):
        check(layer, random(*shape), train=True)

    @train_and_eval
    def test_with_the_reference(self, layer, train):
        check(layer, random(2, 5, 3, 6, 5), train, expected=Reference)

    @pytest.mark.parametrize('layout', list(LAYOUTS))
    def test_layouts_and_relu(self, layer, layout):
        check(layer, LAYOUTS[layout](2, 6, 3, 5, 3), train=True, relu=True)

    @pytest.mark.parametrize('layout', list(LAYOUTS))
    def test_inplace(self, layer, layout):
        x = LAYOUTS[layout](2, 6, 3, 5, 3)
        args = parameters(layer, train=True), specification(layer, train=True)
        out, stats, _ = attention.forward(x, *args, False)
        assert torch.equal(attention.forward_inplace(x, *args), stats)
        assert torch.equal(x, out)

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
    def test_half_precision(self, layer, dtype):
        """Nothing but the results is rounded."""
        check(layer, random(2, 5, 3, 6, 5, dtype=dtype), train=True, relu=True)

    def test_zeros_tie(self, layer):
        """Of equal maxima the first one has the gradient, as after a ReLU."""
        x = random(2, 6, 4, 5, 6).relu()
        x[:, :, 1:3] = 0
        x[:, :4, :, 2:] = 0
        for dim in (1, 2, 3, 4):
            assert (x.amax(dim) == 0).any()
        check(layer, x, train=False, expected=Reference)


@runs_kernels
@pytest.mark.parametrize(
    'grad',
    [lambda *shape: random(1, 1, 1, 1, 1).expand(shape), LAYOUTS['channels_last']],
    ids=['expanded', 'channels_last'],
)
def test_gradients_of_another_layout(grad):
    shape = 2, 4, 3, 5, 3
    check(C_IN_ST, frames(*shape), train=False, grad=grad(*shape))


@runs_kernels
class TestTies:
    @pytest.mark.parametrize('layer', LAYERS[:2], ids=name_of)
    def test_constant(self, layer):
        x = random(1, 1, 1, 1, 1).expand(2, 5, 3, 6, 5)
        check(layer, x, train=False, expected=Reference)

    def test_across_blocks_of_channels(self, monkeypatch):
        monkeypatch.setattr(plan, 'ELEMENTS', 32)
        x = random(1, 1, 1, 1, 1).expand(2, 9, 2, 3, 5)
        check(C, x, train=False, expected=Reference)

    @pytest.mark.parametrize('dim', [2, 3, 4])
    def test_across_tiles(self, dim, monkeypatch):
        """Of tiles with the same maximum the first one counts."""
        monkeypatch.setattr(plan, 'SIDE', 2)
        x = torch.zeros(1, 3, 5, 6, 7, device=DEVICE)
        x.select(dim, 1).fill_(2.0)
        x.select(dim, 4).fill_(2.0)
        check(ST, x, train=False, expected=Reference)


@runs_kernels
class TestSizes:
    """What small inputs do not reach, with smaller limits."""

    @nested_layers
    @pytest.mark.parametrize('layout', ['frames', 'channels_last'])
    def test_frames_of_several_tiles(self, layer, layout, monkeypatch):
        monkeypatch.setattr(plan, 'SIDE', 4)
        monkeypatch.setattr(plan, 'SIDE_CHANNELS_LAST', 4)
        check(layer, LAYOUTS[layout](1, 3, 2, 9, 6), train=True)

    @pytest.mark.parametrize('size', [(70, 3), (3, 256)], ids=str)
    def test_large_frames(self, size):
        check(C_IN_ST, random(1, 1, 2, *size), train=True)

    @nested_layers
    @pytest.mark.parametrize('layout', ['frames', 'channels_last'])
    def test_blocks_of_channels(self, layer, layout, monkeypatch):
        monkeypatch.setattr(plan, 'ELEMENTS', 32)
        check(layer, LAYOUTS[layout](1, 9, 2, 3, 5), train=True)

    @nested_layers
    def test_programs_of_several_items(self, layer, monkeypatch):
        monkeypatch.setattr(plan, 'ROWS', 2)
        check(layer, random(3, 5, 3, 6, 7), train=True)

    @nested_layers
    def test_64_bit_offsets(self, layer, monkeypatch):
        monkeypatch.setattr(plan, 'WIDE', 0)
        check(layer, random(2, 5, 3, 6, 5), train=True)

    @every_layer
    def test_single_element_axes(self, layer):
        check(layer, random(2, 1, 1, 1, 1), train=False)
        check(layer, random(1, 1, 3, 1, 1), train=True)


def test_when_64_bits_are_needed():
    for shape, bits in [((64, 64, 8, 56, 56), 32), ((800, 64, 8, 56, 56), 64)]:
        x = torch.empty(shape, device='meta', dtype=torch.float16)
        found = attention._plan(x, x)
        assert found.int_type.primitive_bitwidth == bits
    # A few channels of an enormous tensor
    x = torch.empty(2, 2**30, 2, 1, 2, device='meta')[:, :: 2**29]
    found = attention._plan(x, torch.empty_like(x))
    assert found.int_type.primitive_bitwidth == 64


@runs_kernels
@pytest.mark.filterwarnings('ignore:overflow encountered in exp')
def test_variance_of_what_is_far_from_zero():
    """As the difference of two means it would be lost in float32."""
    given, spec = parameters(C, train=True), specification(C, train=True)
    centre = torch.zeros_like(given.weight)
    centre[:, :, 1, 1, 1] = 1.0
    given = given._replace(weight=centre)
    x = random(2, 8, 4, 7, 7) + 3000
    got = attention.forward(x, given, spec, False)[1]
    expected = fused.forward(x.double(), double(given), spec, False)[1]
    torch.testing.assert_close(got.double(), expected, rtol=1e-3, atol=0)


@runs_kernels
@every_layer
def test_nan_spreads_as_in_the_reference(layer):
    x = random(2, 5, 4, 6, 6)
    x[0, 2, 1, 3, 3] = float('nan')
    args = parameters(layer, False), specification(layer, False, relu=True)
    out = attention.forward(x, *args, False)[0]
    expected = by_reference(x, *args)
    assert not expected.isnan().all()
    assert torch.equal(out.isnan(), expected.isnan())


def test_float64_is_refused():
    x = torch.randn(1, 2, 3, 4, 5, dtype=torch.float64)
    args = parameters(C, False), specification(C, False)
    with pytest.raises(TypeError, match='got torch.float64; use another'):
        attention.forward(x, *args, False)


@pytest.mark.exhaustive
def test_compiles_for_cuda(tmp_path):
    """The compiler refuses much that the interpreter takes.

    What is kept in registers must fit: a stack is what did not.
    """
    triton = pytest.importorskip('triton', minversion='3.3')
    if not list(Path(triton.__file__).parent.glob('**/ptxas')):
        pytest.skip('this Triton has no assembler for CUDA')
    environment = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    root = Path(__file__).parents[2]
    environment.update(
        TRITON_CACHE_DIR=str(tmp_path),
        PYTHONPATH=os.pathsep.join([str(root), *sys.path]),
    )
    done = subprocess.run(
        [sys.executable, '-m', 'tests.ops.test_triton'],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    compiled = json.loads(done.stdout.splitlines()[-1])
    assert {each['kernel'] for each in compiled} == {
        name for name in vars(kernels) if name.endswith('_kernel')
    }
    for each in compiled:
        assert not each['stack'], each
        assert each['registers'] * each['warps'] * 32 <= gpu_resources.REGISTERS, each


def compile_some():
    """Compile what some layers would launch, each for another GPU, and print what
    it takes.
    """
    cases = [
        gpu_resources.Case(layer, LAYOUTS[layout](*shape).to(dtype), train, gpu)
        for gpu, layer, shape, dtype, layout, train in [
            (80, C_IN_ST, (5, 64, 8, 56, 56), torch.bfloat16, 'frames', True),
            (90, LAYERS[3], (5, 64, 8, 56, 56), torch.float16, 'channels_last', True),
            (100, ST, (1, 3, 2, 70, 112), torch.float32, 'slice', False),
            (90, C, (1, 1, 1, 7, 7), torch.float32, 'clips', False),
        ]
    ]
    print(json.dumps(gpu_resources.compile_kernels(cases)))


if __name__ == '__main__':
    compile_some()


@runs_kernels
@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('layer', [CinST, STinC])
def test_through_the_layer(layer, train):
    layer = layer(num_segments=2, impl='triton').to(DEVICE).train(train)
    x = random(4, 5, 3, 7)
    assert deviations(layer, x, torch.randn_like(x)) == {}


@runs_kernels
def test_runs(monkeypatch):
    ran = []
    for name in ('forward', 'backward'):
        function = getattr(aia_mmaction.ops.triton, name)
        monkeypatch.setattr(
            aia_mmaction.ops.triton,
            name,
            lambda *args, f=function, n=name: (ran.append(n), f(*args))[1],
        )
    x = random(2, 3, 3, 2).requires_grad_()
    ChannelContext(2, impl='triton').to(DEVICE)(x).sum().backward()
    assert ran == ['forward', 'backward']
    assert x.grad.abs().max() > 0


@pytest.mark.skipif(DEVICE == 'cpu', reason='no GPU')
def test_default_on_cuda():
    layer = CinST().to(DEVICE)
    layer(random(2, 3, 4, 5, 6))
    assert layer._path == 'triton'


@runs_kernels
@nested_layers
def test_statistics_over_processes(layer, monkeypatch):
    """The way that they go, here in a group of one."""
    monkeypatch.setattr(attention, 'combine_stats', lambda stats, *_: stats)
    monkeypatch.setattr(
        attention, 'mean_over_all', lambda sums, counts, _: sums / counts[:, None]
    )
    x, grad = random(3, 5, 3, 6, 7), random(3, 5, 3, 6, 7)
    monkeypatch.setattr(plan, 'ROWS', 4)
    given, found = parameters(layer, True), []
    for group in ('', 'a group'):
        spec = specification(layer, True, relu=True)._replace(group=group)
        out, used, saved = attention.forward(x, given, spec, True)
        with_stats = given._replace(stats=used)
        grads = attention.backward(grad, x, None, with_stats, spec, saved)
        found.append((out, used, *grads))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@runs_kernels
@pytest.mark.parametrize('training', [True, False])
def test_nothing_outlives_the_backward_pass(training):
    # Not above: this file is a script, too.
    from .test_recompute import Block, assert_nothing_outlives

    block = Block('triton').to(DEVICE).train(training)
    assert_nothing_outlives(block, DEVICE)
