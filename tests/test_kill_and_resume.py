"""A run that is killed ends as the one that never was."""

import json
import os
import random
import re

import pytest
import torch
from mmengine.runner import runner

from aia_mmaction.repairs.checkpoints import latest_whole_checkpoint

from .conftest import HALF_RESNET18, REPO, exhaustive_but, fresh

pytestmark = pytest.mark.slow

# An attempt that is killed completes at most one epoch (see TIMED) or, where a
# checkpoint is cut, none: after ten of them there is still one to train.
EPOCHS = 8
ITERATIONS = 2  # of an epoch

# MMEngine stores no state of random generators. Workers that start over with
# every epoch, and no dropout, leave the seed alone to decide.
CONFIG = f"""
_base_ = '{REPO}/configs/tsn_r18_cinst_motion-pairs.py'
model = {HALF_RESNET18}
model['cls_head']['dropout_ratio'] = 0
train_cfg = dict(max_epochs={EPOCHS})
param_scheduler = [
    dict(
        type='OneCycleLR',
        eta_max=0.02,
        total_steps={EPOCHS},
        by_epoch=True,
        convert_to_iter_based=True)
]
randomness = dict(seed=0)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(max_keep_ckpts=1))
loader = dict(persistent_workers=False, batch_size=4)
train_dataloader = dict(dataset=dict(indices={4 * ITERATIONS}), **loader)
val_dataloader = loader
test_dataloader = loader
"""
# The moments of `killed_training.py`: five that are aimed at, and five after a
# random number of seconds or, however fast the machine, in the next epoch.
AIMED = ['iteration:2', 'write', 'validation:1', 'pointer', 'write']
TIMED = [
    f'{seconds:.2f}:{ITERATIONS + 1}'
    for seconds in map(random.Random(0).uniform, [0.5] * 5, [8] * 5)
]


def train(work_dir, moments, cwd):
    config = work_dir.with_suffix('.py')
    config.write_text(CONFIG)
    script = REPO / 'tests/killed_training.py'
    return fresh(script, config, work_dir, *moments, cwd=cwd)


def losses(work_dir):
    """By iteration; what is trained twice is counted once."""
    found = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            scalars = json.loads(line)
            if 'loss' in scalars:
                found[scalars['step']] = scalars['loss']
    return found


@pytest.fixture(scope='module')
def undisturbed(motion_pairs, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('undisturbed') / 'run'
    train(work_dir, [], motion_pairs)
    assert len(losses(work_dir)) == EPOCHS * ITERATIONS
    return work_dir


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize('times', exhaustive_but([4], [4, 10]))
def test_killed(times, undisturbed, motion_pairs, tmp_path):
    moments = [m for pair in zip(TIMED, AIMED) for m in pair][:times]
    work_dir = tmp_path / 'run'
    log = train(work_dir, moments, motion_pairs)
    assert len(re.findall('exit -9', log)) == times, log
    last = f'epoch_{EPOCHS}.pth'
    ended, expected = (torch.load(folder / last) for folder in (work_dir, undisturbed))
    assert same(ended['state_dict'], expected['state_dict'])
    assert same(ended['optimizer'], expected['optimizer'])
    assert same(ended['param_schedulers'], expected['param_schedulers'])
    assert losses(work_dir) == losses(undisturbed)
    # max_keep_ckpts=1: no checkpoint, whole or not, is left over
    assert sorted(p.name for p in work_dir.rglob('*.pth') if 'best' not in p.name) == [
        last
    ]


def save(path, value):
    torch.save(dict(state_dict=dict(a=torch.full((500,), value))), path)


@pytest.fixture
def work_dir(tmp_path):
    """Of a run of three epochs."""
    for epoch in (1, 2, 3):
        path = tmp_path / f'epoch_{epoch}.pth'
        save(path, float(epoch))
        os.utime(path, (epoch, epoch))
    save(tmp_path / 'best_acc_top1_epoch_2.pth', 2.0)
    (tmp_path / 'last_checkpoint').write_text(f'{tmp_path}/epoch_3.pth')
    return tmp_path


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def change_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def remove(path):
    path.unlink()


def test_last_checkpoint_is_taken(work_dir):
    save(work_dir / 'epoch_4.pth', 4.0)  # written, and not yet pointed to
    assert latest_whole_checkpoint(work_dir) == str(work_dir / 'epoch_3.pth')


@pytest.mark.parametrize('damage', [truncate, change_a_byte, remove])
def test_one_before_a_broken_one_is_taken(work_dir, damage, capfd):
    damage(work_dir / 'epoch_3.pth')
    latest = latest_whole_checkpoint(work_dir)
    assert latest == str(work_dir / 'epoch_2.pth')
    log = capfd.readouterr().out
    assert 'epoch_3.pth cannot be read' in log
    assert f'goes on from {latest}' in log


@pytest.mark.parametrize('pointer', ['', None])
def test_without_a_pointer_the_newest_is_taken(work_dir, pointer):
    path = work_dir / 'last_checkpoint'
    path.unlink() if pointer is None else path.write_text(pointer)
    assert latest_whole_checkpoint(work_dir) == str(work_dir / 'epoch_3.pth')


def test_all_broken(work_dir):
    for path in work_dir.glob('epoch_*.pth'):
        truncate(path)
    with pytest.raises(RuntimeError, match='epoch_3.*epoch_2.*epoch_1') as e:
        latest_whole_checkpoint(work_dir)
    assert 'best' not in str(e.value)


def test_new_run_has_nothing_to_resume(tmp_path):
    assert latest_whole_checkpoint(tmp_path) is None


def test_runner_resumes_so():
    assert runner.find_latest_checkpoint is latest_whole_checkpoint
