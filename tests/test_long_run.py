"""A long run holds as much at its end as after its beginning.

`make long-run` takes 2,000 iterations and prints the figures.
"""

import json
import os
import sys
from statistics import median

import pytest

from .conftest import HALF_RESNET18, REPO, fresh, mmaction2

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc'),
]

EPOCH = 60
ITERATIONS = int(os.environ.get('ITERATIONS', 2 * EPOCH))
# May be added after the first epoch, in all processes. Batches on their way
# from the workers are files.
BOUNDS = dict(megabytes=30, files=16)
CONFIG = f"""
_base_ = '{REPO}/configs/tsn_r18_cinst_motion-pairs.py'
custom_imports = dict(imports=['aia_mmaction', 'resources_hook'])
custom_hooks = [dict(type='Resources')]
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(max_keep_ckpts=1))
model = {HALF_RESNET18 if ITERATIONS < 1000 else {}}
param_scheduler = None
train_cfg = dict(max_epochs={ITERATIONS // EPOCH})
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        _delete_=True, type='RepeatDataset', times=5,
        dataset=_base_.train_dataloader.dataset))
"""


def test_nothing_grows(motion_pairs, tmp_path):
    config = tmp_path / 'long.py'
    config.write_text(CONFIG)
    mmaction2(
        'train',
        config,
        '--work-dir',
        tmp_path / 'run',
        cwd=motion_pairs,
        env={
            'PYTHONPATH': os.pathsep.join(
                [str(REPO / 'tests'), os.environ.get('PYTHONPATH', '')]
            ),
            'CUDA_VISIBLE_DEVICES': '-1',
        },
        how=fresh,
    )
    (path,) = tmp_path.glob('run/*/vis_data/scalars.json')
    lines = [
        line
        for line in map(json.loads, path.read_text().splitlines())
        if 'files' in line
    ]
    assert len(lines) == ITERATIONS // EPOCH * EPOCH
    for what, bound in BOUNDS.items():
        values = [line[what] for line in lines]
        # The first epoch ends with the start of the workers that validate.
        early = median(values[EPOCH : EPOCH + 20])
        late = median(values[-20:])
        print(
            f'{what}: {early:.0f} in the second epoch, {late:.0f} at the end'
            f' of {len(values)} iterations, {max(values):.0f} at most'
        )
        assert late - early <= bound
