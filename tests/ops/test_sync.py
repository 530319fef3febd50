"""SyncBN: several processes are one with all their clips."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from aia_mmaction import CinST

from ..preloaded import run_code

TWO_PROCESSES = """
import sys
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
torch.set_num_threads(2)
# It must not start these threads: a forked process would wait for them forever.
from aia_mmaction import CinST, STinC, SpatioTemporalContext

def layer(cls, impl, sync):
    torch.manual_seed(0)
    layer = cls(num_segments=2, impl=impl)
    for gate in layer.children():
        nn.init.normal_(gate.norm.bias)
    layer = nn.SyncBatchNorm.convert_sync_batchnorm(layer) if sync else layer
    return layer.double() if impl == 'fused' else layer

def results(layer, x):
    leaf = x.clone().requires_grad_()
    out = layer(leaf, nn.ReLU())
    grads = torch.autograd.grad(out.square().sum(), [leaf, *layer.parameters()])
    return out.detach(), *grads, *layer.buffers()

def work(rank, file, impls):
    dist.init_process_group(
        'gloo', store=dist.FileStore(file, 2), rank=rank, world_size=2)
    torch.manual_seed(1)
    whole = torch.randn(8, 3, 5, 6, dtype=torch.float64) + 2
    for impl in impls:
        tolerance = dict(rtol=1e-12, atol=1e-12)
        if impl != 'fused':
            tolerance, whole = dict(rtol=1e-3, atol=1e-4), whole.float()
        for cls in (CinST, STinC, SpatioTemporalContext):
            expected = results(layer(cls, impl, False), whole)
            own = slice(4 * rank, 4 * rank + 4)
            twin = layer(cls, impl, True)
            got = results(twin, whole[own])
            parameters = list(twin.parameters())
            for i, (g, e) in enumerate(zip(got, expected)):
                if i < 2:  # of this process's clips
                    e = e[own]
                elif i < 2 + len(parameters):
                    dist.all_reduce(g)
                if g.numel() == 1 and impl != 'fused' and i >= 2:
                    assert (g - e).abs() <= 1e-3 * max(1, e.abs()), (impl, i, g, e)
                else:
                    torch.testing.assert_close(g, e, **tolerance)
        print('rank', rank, impl, 'is right', flush=True)
    dist.barrier()

if __name__ == '__main__':
    mp.start_processes(work, ('store', sys.argv[1:]), 2, start_method='fork')
"""


def test_two_processes_are_one(tmp_path):
    impls = ['fused', 'numba'] if find_spec('numba') else ['fused']
    code = TWO_PROCESSES.replace('sys.argv[1:]', repr(impls))
    exit_code, log = run_code(code, tmp_path, {}, timeout=300)
    assert exit_code == 0, log
    assert log.count('is right') == 2 * len(impls), log


def test_alone_it_is_batch_norm():
    layer = CinST(num_segments=2)
    twin = nn.SyncBatchNorm.convert_sync_batchnorm(CinST(num_segments=2))
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(4, 3, 5, 6)
    for mode in (True, False):
        layer.train(mode), twin.train(mode)
        assert torch.equal(layer(x), twin(x))
    for got, expected in zip(twin.buffers(), layer.buffers()):
        assert torch.equal(got, expected)


def test_no_second_derivative(monkeypatch):
    from aia_mmaction.ops import sync

    monkeypatch.setattr(sync, 'group_of', lambda norm: 'group')
    monkeypatch.setattr(sync, 'world_size', lambda name: 1)
    monkeypatch.setattr('aia_mmaction.ops.fused.combine_stats', lambda s, *_: s)
    layer = CinST(num_segments=2, impl='fused')
    x = torch.randn(4, 3, 5, 6, requires_grad=True)
    with pytest.raises(NotImplementedError, match='second derivative.*Use BN'):
        torch.autograd.grad(layer(x).sum(), x, create_graph=True)
