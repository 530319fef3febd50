import numpy as np
import pytest
from mmengine.dataset import Compose

from ..conftest import read_config


@pytest.mark.parametrize('sampling', [dict(), dict(clip_len=3, num_clips=4)])
def test_a_video_backwards(sampling, motion_pairs):
    """All that the network gets is in the opposite order."""
    steps = read_config('tsn_r18_motion-pairs.py').test_pipeline
    steps[1].update(sampling)
    steps = [step for step in steps if step.type != 'PackActionInputs']
    video = dict(
        filename=str(motion_pairs / 'data/motion_pairs/videos/test/00000.avi'),
        start_index=0,
        modality='RGB',
    )
    forwards = Compose(steps)(dict(video))['imgs']
    steps.insert(2, dict(type='ReverseFrames'))
    backwards = Compose(steps)(dict(video))['imgs']
    np.testing.assert_array_equal(backwards, forwards[::-1])
    assert not np.array_equal(backwards, forwards)
