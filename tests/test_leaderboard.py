"""From what the owners ship to a leaderboard's file, tool by tool."""

import sys

import pytest

from .conftest import IN_PROCESS, REPO, call, mmaction2, run
from .tools.test_prepare import make_sthv2

CONFIG = REPO / 'configs/tsn_r50_cinst_sthv2.py'
TEST_LIST = 'data/sthv2/sthv2_test_list_videos.txt'


@pytest.mark.slow
def test_prepare_train_test_submit(tmp_path):
    videos = make_sthv2(tmp_path / 'raw')
    call(REPO / 'tools/data/prepare.py', 'sthv2', 'raw', cwd=tmp_path)
    # Broken since it was prepared: training goes on without it.
    (videos / '1.webm').write_bytes(b'')
    options = [
        '--cfg-options',
        *IN_PROCESS,
        'model.backbone.pretrained=None',
        'train_dataloader.batch_size=2',
        'train_dataloader.dataset.pipeline.5.scale=(64,64)',
        *(
            f'{split}_dataloader.dataset.pipeline.4.crop_size=64'
            for split in ('val', 'test')
        ),
    ]
    log = mmaction2('train', CONFIG, *options, 'train_cfg.max_epochs=1', cwd=tmp_path)
    assert 'data/sthv2/videos/1.webm cannot be read' in log
    mmaction2(
        'test',
        CONFIG,
        'work_dirs/tsn_r50_cinst_sthv2/epoch_1.pth',
        '--dump',
        'pred.pkl',
        *options,
        f'test_dataloader.dataset.ann_file={TEST_LIST}',
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
