"""Two processes train and test as one does."""

import json
import os
import re
import sys

import pytest
import torch
import torch.distributed.fsdp

from .conftest import HALF_RESNET18, REPO, fresh, mmaction2, run
from .preloaded import run_code

pytestmark = pytest.mark.slow

# The same pictures in every run: each process draws random numbers of its
# own. The batch norms of two CPUs know of no SyncBN, so they are frozen there.
TWO_GPUS = torch.cuda.device_count() >= 2
CONFIG = f"""
_base_ = '{REPO}/configs/tsn_r18_cinst_motion-pairs.py'
custom_imports = dict(imports=['aia_mmaction', 'distributed_hook'])
custom_hooks = [dict(type='LossOfAllRanks')]
model = {HALF_RESNET18}
model['backbone']['norm_eval'] = {not TWO_GPUS}
model['cls_head']['dropout_ratio'] = 0
sync_bn = 'torch' if {TWO_GPUS} else None
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = None
train_cfg = dict(max_epochs=2)
randomness = dict(seed=0)
default_hooks = dict(logger=dict(interval=1))
train_dataloader = dict(
    batch_size=BATCH_SIZE, num_workers=0, persistent_workers=False,
    dataset=dict(pipeline=_base_.test_pipeline))
# 7 videos, so that one process has more than the other
val_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(indices=7))
test_dataloader = val_dataloader
"""


def command(verb, config, processes, cwd, *options):
    """``mim train`` and ``mim test``; one process needs no launcher."""
    env = {
        'PYTHONPATH': os.pathsep.join(
            [str(REPO / 'tests'), os.environ.get('PYTHONPATH', '')]
        )
    }
    if not TWO_GPUS:
        env['CUDA_VISIBLE_DEVICES'] = '-1'
        options = [*options, '--cfg-options', 'env_cfg.dist_cfg.backend=gloo']
    if processes == 1:
        return mmaction2(verb, config, *options, cwd=cwd, env=env, how=fresh)
    if verb == 'test':
        options = ['--checkpoint', *options]
    launch = ['--gpus', processes, '--launcher', 'pytorch']
    mim = (sys.executable, '-m', 'mim', verb, 'mmaction')
    return run(*mim, config, *launch, *options, cwd=cwd, env=env)


def scalars(work_dir, key):
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    lines = map(json.loads, path.read_text().splitlines())
    return [line[key] for line in lines if key in line]


@pytest.fixture(scope='module')
def runs(motion_pairs, tmp_path_factory):
    """The work_dir of one process, and that of two."""
    folder = tmp_path_factory.mktemp('runs')
    for processes in (1, 2):
        config = folder / f'{processes}.py'
        config.write_text(CONFIG.replace('BATCH_SIZE', str(8 // processes)))
        command(
            'train',
            config,
            processes,
            motion_pairs,
            '--work-dir',
            folder / f'{processes}',
        )
    return folder / '1', folder / '2'


def test_same_loss_curve(runs):
    one, two = (scalars(run, 'loss_of_all') for run in runs)
    assert len(one) == 6  # 24 videos, 2 epochs
    assert two == pytest.approx(one, rel=1e-10)


def test_same_weights(runs):
    one, two = (torch.load(run / 'epoch_2.pth')['state_dict'] for run in runs)
    before = torch.load(runs[0] / 'epoch_1.pth')['state_dict']
    assert one.keys() == two.keys()
    for name, value in one.items():
        learned, size, error = (
            x.double().norm() for x in (value - before[name], value, two[name] - value)
        )
        assert error <= 1e-8 * learned + 1e-15 * size, name


def test_same_metric(runs, motion_pairs):
    config, checkpoint = runs[0].with_suffix('.py'), runs[0] / 'epoch_2.pth'
    one, two = (
        command('test', config, processes, motion_pairs, checkpoint)
        for processes in (1, 2)
    )
    accuracies = [
        re.findall(r'acc/top[15]: [\d.]+|mean1: [\d.]+', log) for log in (one, two)
    ]
    assert accuracies[0] and accuracies[0] == accuracies[1]
    assert '[4/4]' in one and '[2/2]' in two


FULLY_SHARD = """
import copy, sys
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from aia_mmaction import AIAResNet

def shard(network, *parts):
    mesh = init_device_mesh('cpu', (2,))
    for part in [*parts, network]:
        fully_shard(part, mesh=mesh)
    return network

def work(rank):
    store = dist.FileStore('store', 2)
    dist.init_process_group('gloo', store=store, rank=rank, world_size=2)
    torch.manual_seed(0)
    network = AIAResNet(
        depth=18, num_segments=2, num_stages=2, strides=(1, 2), dilations=(1, 1),
        out_indices=(1,), norm_eval=False, pretrained=None).double().train()
    twin = copy.deepcopy(network)
    try:
        shard(torch.nn.Linear(2, 2))(torch.ones(1, 2))
    except AttributeError as error:
        print('not on CPUs:', error, flush=True)
        return
    shard(network, *network.layer1, *network.layer2)
    x = torch.randn(4, 3, 24, 32).double()
    for _ in range(2):
        for model in (network, twin):
            model.zero_grad()
            model(x).square().mean().backward()
    for parameter, other in zip(network.parameters(), twin.parameters()):
        assert type(parameter).__name__ == 'DTensor'
        torch.testing.assert_close(parameter.grad.full_tensor(), other.grad)
    dist.barrier()

if __name__ == '__main__':
    mp.start_processes(work, (), 2, start_method='fork')
"""


@pytest.mark.skipif(
    not hasattr(torch.distributed.fsdp, 'fully_shard'), reason='later than this torch'
)
def test_fully_shard(tmp_path):
    """FSDP2: gradients equal those of the network as it is."""
    code, log = run_code(FULLY_SHARD, tmp_path, {})
    assert code == 0, log
    if 'not on CPUs:' in log:  # of torch 2.6
        pytest.skip('fully_shard fails for any network')
