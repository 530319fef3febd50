import pytest
from mmengine.config import Config

from aia_mmaction.benchmarking.prediction import GPUS, predict

from ..conftest import REPO


def test_prediction():
    cfg = Config.fromfile(REPO / 'configs/tsn_r18_cinst_motion-pairs.py')
    rows = predict(cfg, 'tsn', batch=4, size=64)
    assert [row['gpu'] for row in rows[::2]] == list(GPUS)
    # Two blocks in each of four stages; 4 clips of 8 frames
    maps = sum(2 * 4 * 8 * 64 * 2**i * (16 // 2**i) ** 2 for i in range(4))
    for row, (bandwidth, _) in zip(rows[::2], GPUS.values()):
        # x is read three times, the output written, in half precision; ten launches
        expected = 4 * 2 * maps / bandwidth + 8 * 10 * 2e-6
        assert row['attention (ms)'] == pytest.approx(1e3 * expected)
        assert row['predicted: plain (ms)'] > 0
    # A bigger batch hides the launches.
    (first, *_), (more, *_) = (predict(cfg, 'tsn', b, 224) for b in (1, 64))
    assert 1 < more['over plain'] < first['over plain']
