"""Depth becomes video by the mapping that others used for theirs."""

import pytest

from aia_mmaction.datasets.preparation.depth import convert
from aia_mmaction.datasets.video_reader import Video

from ..conftest import REPO

pytest.importorskip('av')

UTD_MHAD = REPO.parent / 'shared' / 'real' / 'utd_mhad'


@pytest.mark.skipif(not UTD_MHAD.exists(), reason='needs recordings of UTD-MHAD')
def test_against_videos_made_by_others(tmp_path):
    recording = UTD_MHAD / 'raw_samples' / 'a1_s1_t1_depth.mat'
    assert convert({'made.mp4': recording}, tmp_path, num_workers=1) == {}
    ours, theirs = (
        Video(path.read_bytes())
        for path in (tmp_path / 'made.mp4', UTD_MHAD / 'videos' / 'a01_s1_t1.mp4')
    )
    assert len(ours) == len(theirs)
    a, b = (v.get_batch(range(len(v))).asnumpy().astype(int) for v in (ours, theirs))
    assert a.shape == b.shape
    assert 0 < abs(a - b).mean() < 4  # of 255
