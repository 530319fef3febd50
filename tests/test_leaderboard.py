"""From what the owners ship to a leaderboard's file, by the commands."""

import sys

import pytest

from .conftest import REPO, mim, run
from .tools.test_prepare import make_sthv2

CONFIG = REPO / 'configs/tsn_r50_cinst_sthv2.py'
TEST_LIST = 'data/sthv2/sthv2_test_list_videos.txt'


@pytest.mark.slow
def test_prepare_train_test_submit(tmp_path):
    videos = make_sthv2(tmp_path / 'raw')
    run(sys.executable, REPO / 'tools/data/prepare.py', 'sthv2', 'raw', cwd=tmp_path)
    # Broken since it was prepared: training goes on without it.
    (videos / '1.webm').write_bytes(b'')
    options = [
        'model.backbone.pretrained=None',
        'train_dataloader.batch_size=2',
        *(
            f'{loader}_dataloader.{option}'
            for loader in ('train', 'val', 'test')
            for option in ('num_workers=0', 'persistent_workers=False')
        ),
    ]
    log = mim(
        'train',
        'mmaction',
        CONFIG,
        '--cfg-options',
        'train_cfg.max_epochs=1',
        *options,
        cwd=tmp_path,
    )
    assert 'data/sthv2/videos/1.webm cannot be read' in log
    mim(
        'test',
        'mmaction',
        CONFIG,
        '--checkpoint',
        'work_dirs/tsn_r50_cinst_sthv2/epoch_1.pth',
        '--dump',
        'pred.pkl',
        '--cfg-options',
        f'test_dataloader.dataset.ann_file={TEST_LIST}',
        *options,
        cwd=tmp_path,
    )
    run(
        sys.executable,
        REPO / 'tools/submit.py',
        'sthv2',
        'pred.pkl',
        '--list',
        TEST_LIST,
        '--out',
        'submission.csv',
        cwd=tmp_path,
    )
    lines = (tmp_path / 'submission.csv').read_text().splitlines()
    assert [line.split(';')[0] for line in lines] == ['5', '4']
    for line in lines:
        classes = [int(k) for k in line.split(';')[1:]]
        assert len(set(classes)) == 5
        assert all(0 <= k < 174 for k in classes)
