"""``TRITON_INTERPRET=1 pytest tests/ops/test_self_check.py`` runs the kernels."""

import warnings
from datetime import timedelta

import pytest
import torch

pytest.importorskip('triton')

import aia_mmaction.ops.triton as kernels
from aia_mmaction import CinST
from aia_mmaction.ops import dispatch, self_check

from ..preloaded import run_code
from .test_triton import DEVICE, runs_kernels

pytestmark = runs_kernels


@pytest.fixture(autouse=True)
def anew(monkeypatch):
    """As in a new process, of a machine on which 'auto' wants Triton."""
    monkeypatch.setattr(self_check, '_found', {})
    monkeypatch.setattr(dispatch, '_TRITON_DEVICES', (DEVICE,))
    monkeypatch.setattr(dispatch, '_HAS_NUMBA', False)  # fused comes next


def path_of(x, layer=None):
    layer = layer or CinST()
    layer(x)
    return layer._path


@pytest.fixture
def x():
    return torch.randn(1, 2, 3, 4, 5, device=DEVICE)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_right_kernels_are_taken(dtype, x, monkeypatch):
    """In whatever mode the caller is, and without random numbers."""
    packed = []
    hooks = torch.autograd.graph.saved_tensors_hooks(packed.append, lambda t: t)
    state = torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        with torch.inference_mode(), hooks, torch.autocast(DEVICE, torch.bfloat16):
            assert self_check.why_not(x.to(dtype)) is None
    assert not packed
    assert torch.equal(torch.random.get_rng_state(), state)
    assert self_check._found == {(x.device, dtype): None}
    # Once is enough.
    monkeypatch.setattr(self_check, '_try', None)
    assert self_check.why_not(x.to(dtype)) is None
    if dtype == torch.float32:
        assert path_of(x) == 'triton'


def slightly_wrong(kernel):
    def wrong(*args):
        out, *others = kernel(*args)
        return (out * 1.002, *others)

    return wrong


def not_a_number(kernel):
    def wrong(*args):
        out, *others = kernel(*args)
        return (out * float('nan'), *others)

    return wrong


def failing(kernel):
    def wrong(*args):
        raise RuntimeError('PTX was compiled with an unsupported toolchain')

    return wrong


def in_place(kernel):
    def wrong(x, *args):
        used = kernel(x, *args)
        x.mul_(1.002)
        return used

    return wrong


@pytest.mark.parametrize(
    'kernel, fault, reason',
    [
        ('forward', slightly_wrong, 'the output of .* within 2e-06 .* got 2.0e-03'),
        ('forward', not_a_number, 'the output of .* got nan'),
        ('forward_inplace', in_place, 'the inference of'),
        ('backward', slightly_wrong, 'the gradient of x of'),
        ('backward', failing, 'RuntimeError: PTX was compiled with'),
    ],
)
def test_wrong_kernels_are_not(kernel, fault, reason, x, monkeypatch):
    monkeypatch.setattr(kernels, kernel, fault(getattr(kernels, kernel)))
    with pytest.warns(UserWarning, match=f'do not work on {DEVICE}.*: .*{reason}'):
        assert path_of(x) == 'fused'
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # said once
        assert path_of(x) == 'fused'


def test_a_path_by_name_is_not_tried(x, monkeypatch):
    monkeypatch.setattr(self_check, '_try', None)
    assert path_of(x, CinST(impl='triton')) == 'triton'


def test_not_in_a_graph(x, monkeypatch):
    network = torch.compile(CinST().to(DEVICE), fullgraph=True, backend='eager')
    with torch.no_grad():
        network(x)
    assert not self_check._found
    monkeypatch.setattr(self_check, '_try', lambda *args: None)
    path_of(x)
    torch._dynamo.reset()
    calls = []
    forward = kernels.forward
    monkeypatch.setattr(kernels, 'forward', lambda *a: calls.append(a) or forward(*a))
    with torch.no_grad():
        network(x)
    assert calls


TWO_PROCESSES = """
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from aia_mmaction.ops import self_check

def work(rank, file, broken):
    store = dist.FileStore(file, 2)
    dist.init_process_group('gloo', store=store, rank=rank, world_size=2)
    self_check._try = lambda *args: f'of {rank}' if rank in broken else None
    # One write, as the lines of the two must not mix
    found = f'rank {rank} {self_check.why_not(torch.zeros(1))}'
    print(found + chr(10), end='', flush=True)
    dist.barrier()

if __name__ == '__main__':
    for broken in [(), (1,)]:
        mp.start_processes(
            work, (f'store{len(broken)}', broken), 2, start_method='fork')
"""


def test_one_decision_of_two_processes(tmp_path):
    code, log = run_code(TWO_PROCESSES, tmp_path, {})
    assert code == 0, log
    for rank in (0, 1):
        assert f'rank {rank} None' in log
        assert f'rank {rank} of 1' in log


def test_a_process_that_is_alone(x, monkeypatch, tmp_path):
    """The others use no attention, and nobody waits for them for long."""
    store = torch.distributed.FileStore(str(tmp_path / 'store'), 2)
    monkeypatch.setattr(self_check, 'TIMEOUT', timedelta(seconds=0.1))
    monkeypatch.setattr(self_check, '_try', lambda *args: None)
    distributed = torch.distributed
    monkeypatch.setattr(distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(distributed, 'get_rank', lambda: 0)
    monkeypatch.setattr(distributed, 'get_world_size', lambda: 2)
    monkeypatch.setattr(
        distributed.distributed_c10d, '_get_default_store', lambda: store
    )
    assert self_check.why_not(x) is None
