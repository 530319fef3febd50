"""Without a GPU: ``TRITON_INTERPRET=1 pytest tests/benchmarking``."""

import os

import pytest

pytest.importorskip('triton')

from aia_mmaction.benchmarking import gpu_counts, prediction
from aia_mmaction.ops import LAYERS

pytestmark = pytest.mark.skipif(
    os.environ.get('TRITON_INTERPRET') != '1',
    reason='TRITON_INTERPRET=1, as in the third run of make test',
)
# Launches of kernels, launches of all, and reads and writes over what must be
LIMITS = dict(inference=(8, 10, 1.2), forward=(8, 15, 1.2), backward=(12, 12, 1.3))


@pytest.mark.parametrize('layer', LAYERS)
def test_launches_and_traffic(layer, monkeypatch):
    monkeypatch.setattr(gpu_counts, 'CALLS', 1)
    rows = gpu_counts.count_layers([layer])
    assert [row['layout'] for row in rows] == ['NCHW'] * 3 + ['channels_last'] * 3
    for row in rows:
        kernels, launches, traffic = LIMITS[row['pass']]
        assert 3 <= row['kernels'] <= kernels
        assert row['kernels'] + row['by PyTorch'] <= launches
        assert 1 <= row['of the floor'] <= traffic
        assert row['written (of x)'] == 1
    inference, forward, backward = (r['kernels'] + r['by PyTorch'] for r in rows[:3])
    assumed = prediction.LAUNCHES[LAYERS[layer].inner != '']
    assert inference <= assumed[0] and forward + backward <= assumed[1]
