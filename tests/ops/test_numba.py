"""The loops for CPUs, of the extra ``cpu``."""

import copy
import os
import threading

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip('numba')


from aia_mmaction import ChannelContext, CinST, STinC
from aia_mmaction.ops import LAYERS as AXES
from aia_mmaction.ops import dispatch
from aia_mmaction.ops.parameters import Parameters
from aia_mmaction.ops.parity import deviations
from aia_mmaction.ops.specification import Specification

from ..preloaded import run_code
from .test_paths import LAYERS, SHAPES, assert_inplace_is_the_same, build, data


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('cls', LAYERS)
def test_parity(cls, dtype, shape, training):
    layer = build(cls, 'numba', training)
    assert deviations(layer, *data(shape, dtype)) == {}


LAYOUTS = {
    'NCHW': lambda: torch.randn(8, 6, 5, 7),
    'channels_last': lambda: torch.randn(8, 5, 7, 6).permute(0, 3, 1, 2),
    'slice': lambda: torch.randn(8, 12, 5, 14)[:, ::2, :, 1::2],
    'NCTHW': lambda: torch.randn(2, 6, 4, 5, 7),
    'channels_last_3d': lambda: torch.randn(2, 4, 5, 7, 6).permute(0, 4, 1, 2, 3),
}


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('cls', LAYERS)
def test_layouts(cls, layout):
    layer, x = build(cls, 'numba', num_segments=4), LAYOUTS[layout]()
    assert layer(x).stride() == torch.empty_like(x).stride()
    assert deviations(layer, x, LAYOUTS[layout]()) == {}
    # A gradient of another layout
    assert deviations(layer, x, torch.randn(x.shape)) == {}


@pytest.mark.parametrize(
    'shape', [(3, 17, 2, 2, 2), (1, 9, 3, 40, 50), (1, 3, 1, 1, 70)], ids=str
)
@pytest.mark.parametrize('cls', LAYERS[2:])
def test_what_is_left_over_of_blocks(cls, shape):
    """Small planes are computed several at a time, large slices two at a time."""
    x, grad = data(shape)
    assert deviations(build(cls, 'numba'), x, grad) == {}


def test_the_input_may_be_made_again_in_another_layout():
    """As of the norm before the layer, which need not keep its input's."""
    from aia_mmaction.ops import numba

    torch.manual_seed(0)
    spec = Specification(*AXES['CinST'], 0, 1e-5, False, False)
    parameters = Parameters(
        torch.randn(4, 2, 3, 3, 3), torch.ones(4), torch.zeros(4), torch.ones(4, 2)
    )
    x = LAYOUTS['channels_last_3d']()
    _, _, saved = numba.forward(x, parameters, spec, True)
    grads = [
        numba.backward(x, each, None, parameters, spec, saved)
        for each in (x, x.contiguous())
    ]
    for one, other in zip(*grads):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


WITHIN_ARRAYS = """
import torch
from aia_mmaction import CinST, STinC

torch.set_num_threads(1)
for layer in CinST(impl='numba'), STinC(impl='numba'):
    for shape in (2, 2, 1, 9, 1), (1, 1, 2, 3, 1), (1, 4, 2, 2, 1), (1, 2, 3, 1, 23):
        for format in torch.contiguous_format, torch.channels_last_3d:
            x = torch.randn(shape).contiguous(memory_format=format)
            layer(x.requires_grad_()).sum().backward()
"""


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < '2.0.0',
    reason='an unsigned and a signed integer make a float',
)
def test_stays_within_its_arrays(tmp_path):
    """NumPy sees it where nothing is compiled."""
    code, log = run_code(WITHIN_ARRAYS, tmp_path, dict(NUMBA_DISABLE_JIT='1'))
    assert code == 0, log


@pytest.mark.parametrize('cls', LAYERS)
def test_of_equal_maxima_the_same_gets_the_gradient(cls):
    """Behind a ReLU most maxima are shared."""
    layer = build(cls, 'numba')
    x, grad = data((2, 5, 4, 6, 3))
    x[x < 1] = 0
    assert deviations(layer, x, grad) == {}


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('layout', ['NCTHW', 'NCHW', 'channels_last'])
@pytest.mark.parametrize('cls', LAYERS)
def test_inplace(cls, layout, training):
    layer = build(cls, 'numba', training, num_segments=4)
    assert_inplace_is_the_same(layer, layout)


@pytest.mark.parametrize('cls', LAYERS)
def test_nan_and_infinity_spread_as_in_the_reference(cls):
    layer = build(cls, 'numba', training=False)
    twin = copy.deepcopy(layer)
    twin.impl = 'reference'
    for value in ('nan', 'inf', '-inf'):
        x = torch.randn(2, 5, 4, 6, 6)
        x[0, 2, 1, 3, 3] = float(value)
        out, expected = layer(x), twin(x)
        assert expected.isfinite().any()
        torch.testing.assert_close(out, expected, equal_nan=True)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def results(layer, x):
    leaf = x.clone().requires_grad_()
    out = layer(leaf, nn.ReLU())
    grads = torch.autograd.grad(out.square().sum(), [leaf, *layer.parameters()])
    return [out, *grads, *layer.buffers()]


@pytest.mark.skipif(os.cpu_count() < 2, reason='one core')
@pytest.mark.parametrize('cls', [CinST, STinC])
@pytest.mark.exhaustive
def test_as_many_threads_as_pytorch(cls, threads):
    layer, x = build(cls, 'numba', num_segments=4), torch.randn(8, 6, 5, 7)
    found = []
    for number in (1, 2, 2):
        threads(number)
        found.append(results(copy.deepcopy(layer), x))
    torch.testing.assert_close(found[0], found[1])
    assert all(map(torch.equal, found[1], found[2]))  # every time


def test_threads_that_call_it_at_once(threads):
    threads(2)
    layer, x = build(CinST, 'numba', num_segments=4), torch.randn(8, 6, 5, 7)
    expected = results(copy.deepcopy(layer), x)
    found = []

    def work(twin):
        for _ in range(8):
            found.append(results(copy.deepcopy(twin), x))

    workers = [
        threading.Thread(target=work, args=(copy.deepcopy(layer),)) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 32
    for each in found:
        assert all(map(torch.equal, each, expected))


FORKED = """
import os
import torch
from torch.utils.data import DataLoader
from aia_mmaction import CinST

torch.set_num_threads(2)
layer, x = CinST(num_segments=4, impl='numba').eval(), torch.randn(8, 6, 5, 7)

class Features:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        with torch.no_grad():
            return layer(x)

if __name__ == '__main__':
    # OpenMP's threads are there, of PyTorch and of numba.
    torch.randn(1000, 1000) @ torch.randn(1000, 1000)
    with torch.no_grad():  # whose loops may round differently from those of training
        expected = layer(x)
    child = os.fork()
    if child == 0:
        # PyTorch itself would hang here.
        torch.set_num_threads(2)
        with torch.no_grad():
            same = torch.equal(layer(x), expected)
        os._exit(0 if same else 1)
    print('child', os.waitpid(child, 0)[1])
    loader = DataLoader(Features(), num_workers=2, multiprocessing_context='fork')
    print('workers', all(torch.equal(out[0], expected) for out in loader))
"""


def test_forked_processes(tmp_path):
    code, log = run_code(FORKED, tmp_path, {})
    assert code == 0, log
    assert 'child 0' in log and 'workers True' in log


LAYER = """
import sys
import torch
from aia_mmaction import ChannelContext

torch.set_num_threads(1)  # compiles less
layer, x = ChannelContext(impl='numba').eval(), torch.ones(1, 2, 2, 3, 3)
with torch.no_grad():
    print('sum', layer(x).sum().item() > 0)
"""


@pytest.mark.slow
def test_processes_with_one_new_cache(tmp_path):
    """Two at once, and one of them for another kind of CPU."""
    logs = []

    def work(**env):
        env['NUMBA_CACHE_DIR'] = str(tmp_path / 'cache')
        logs.append(run_code(LAYER, tmp_path, env))

    kinds = [{}, {}, dict(NUMBA_CPU_NAME='generic')]
    workers = [threading.Thread(target=work, kwargs=kind) for kind in kinds]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for code, log in logs:
        assert code == 0 and 'sum True' in log, log
    assert list(tmp_path.rglob('*.nbi'))


@pytest.mark.slow
def test_nowhere_to_write(tmp_path):
    """A read-only installation, and no home: it compiles, and says so."""
    code = 'import numba\n' + NO_LOCATOR + LAYER
    exit_code, log = run_code(code, tmp_path, {})
    assert exit_code == 0, log
    assert 'sum True' in log
    assert log.count('Set NUMBA_CACHE_DIR to such a folder') == 1


# As root can write everywhere, numba is told that it cannot.
NO_LOCATOR = """
from numba.core import caching
caching.CacheImpl._locator_classes = []
"""


def test_importing_the_package_leaves_numba_out(tmp_path):
    code = "import sys, aia_mmaction\nprint('loaded', 'numba' in sys.modules)"
    exit_code, log = run_code(code, tmp_path, {})
    assert exit_code == 0 and 'loaded False' in log, log


def test_one_thread_where_more_would_end_the_process(monkeypatch, threads):
    """Numba's own threads end the process when two threads call them."""
    from aia_mmaction.ops.numba import compiling

    threads(2)
    monkeypatch.setattr(compiling, '_layer', 'workqueue')
    assert compiling.num_threads() == 1
    layer, x = build(ChannelContext, 'numba'), torch.randn(2, 3, 4, 5, 6)
    assert deviations(layer, x, torch.randn_like(x)) == {}


def test_double_backward():
    """By the reference, whose second derivative it is."""
    layer = build(CinST, 'numba', num_segments=2)
    x = torch.randn(4, 2, 3, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    second = torch.autograd.grad(grad.square().sum(), x)[0]
    layer.impl = 'reference'
    (grad,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    torch.testing.assert_close(
        second, torch.autograd.grad(grad.square().sum(), x)[0], rtol=1e-3, atol=1e-4
    )


def test_taken_by_default():
    layer = CinST()
    path, _ = dispatch.choose(
        'auto', torch.randn(2, 3, 4, 5, 6), layer.axes, layer._gates()
    )
    assert path == 'numba'


def test_whatever_the_defaults_are():
    layer, x = build(STinC, 'numba', False), torch.randn(2, 3, 4, 5, 6)
    expected = layer(x)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device('meta'), torch.inference_mode():
            assert torch.equal(layer(x), expected)
    finally:
        torch.set_default_dtype(torch.float32)
