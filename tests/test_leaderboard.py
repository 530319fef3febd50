"""From what the owners ship to a leaderboard's file, tool by tool."""

import pytest

from aia_mmaction.evaluation.dumps import load_dump

from .conftest import IN_PROCESS, REPO, call, mmaction2
from .tools.test_prepare import make_sthv2

CONFIG = REPO / 'configs/tsn_r50_cinst_sthv2.py'


@pytest.mark.slow
def test_prepare_train_submit(tmp_path):
    videos = make_sthv2(tmp_path / 'raw')
    call(REPO / 'tools/data/prepare.py', 'sthv2', 'raw', cwd=tmp_path)
    # Broken since it was prepared: training goes on without it.
    (videos / '1.webm').write_bytes(b'')
    options = ['--cfg-options', *IN_PROCESS, 'model.backbone.pretrained=None']
    train = [
        'train_dataloader.batch_size=2',
        'train_dataloader.dataset.pipeline.5.scale=(64,64)',
        'val_dataloader.dataset.pipeline.4.crop_size=64',
        'train_cfg.max_epochs=1',
    ]
    log = mmaction2('train', CONFIG, *options, *train, cwd=tmp_path)
    assert 'data/sthv2/videos/1.webm cannot be read' in log
    checkpoint = 'work_dirs/tsn_r50_cinst_sthv2/epoch_1.pth'
    leaderboard = [REPO / 'tools/leaderboard.py', 'sthv2', '--out-dir', 'out']
    leaderboard += ['--models', CONFIG, checkpoint, '--processes', '2', *options]
    leaderboard += ['test_dataloader.dataset.pipeline.4.crop_size=64']
    call(*leaderboard, cwd=tmp_path)
    lines = (tmp_path / 'out/submission.csv').read_text().splitlines()
    assert [line.split(';')[0] for line in lines] == ['5', '4']
    for line in lines:
        classes = [int(k) for k in line.split(';')[1:]]
        assert len(set(classes)) == 5
        assert all(0 <= k < 174 for k in classes)
    # Two processes take the one video of the validation list both.
    val = load_dump(tmp_path / 'out/1_tsn_r50_cinst_sthv2/val.pkl')
    assert val.names == ['data/sthv2/videos/3.webm']
    again = call(*leaderboard, cwd=tmp_path)
    assert again.count('is there already') == 2 and '$ ' not in again
