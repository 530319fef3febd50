import cv2
import decord
import numpy as np
import pytest
from mmaction.registry import DATASETS, TRANSFORMS

from aia_mmaction.datasets.preparation.motion_pairs import render

from ..conftest import REPO, call, labels_of

TOOL = REPO / 'tools/data/make_motion_pairs.py'


def frames_of(path):
    reader = decord.VideoReader(str(path))
    return reader.get_batch(range(len(reader))).asnumpy()


def test_reads_as_a_video_dataset(motion_pairs):
    root = motion_pairs / 'data/motion_pairs'
    for split, size in (('train', 24), ('test', 8)):
        dataset = DATASETS.build(
            dict(
                type='VideoDataset',
                ann_file=str(root / f'motion_pairs_{split}_list_videos.txt'),
                data_prefix=dict(video=str(root / 'videos')),
                pipeline=[
                    dict(type='DecordInit'),
                    dict(type='SampleFrames', clip_len=1, num_clips=8),
                    dict(type='DecordDecode'),
                    dict(type='FormatShape', input_format='NCHW'),
                    dict(type='PackActionInputs'),
                ],
            )
        )
        assert len(dataset) == size
        labels = labels_of(dataset[i]['data_samples'] for i in range(size))
        assert sorted(labels) == sorted(list(range(8)) * (size // 8))
        assert dataset[0]['inputs'].shape == (8, 3, 64, 64)
    names = (root / 'label_map.txt').read_text().splitlines()
    assert names[2:4] == ['vertical forward', 'vertical reversed']


def test_directions_have_the_same_frames():
    """With one seed, a reversed clip is the forward clip backwards."""
    for label in range(0, 8, 2):
        forward, backward = (
            render(k, 16, 64, np.random.default_rng(3)).astype(float)
            for k in (label, label + 1)
        )
        # the noise differs: standard deviation 8 in each of the two
        error = np.abs(forward - backward[::-1])
        assert error.mean() < 12 and error.max() < 80, label
        assert np.abs(forward - backward).max() > 80, label


def test_single_frames_do_not_tell_the_direction():
    """Frame statistics of the two directions agree over many clips."""
    for label in range(0, 8, 2):
        means = []
        for k in (label, label + 1):
            clips = [render(k, 8, 16, np.random.default_rng(s)) for s in range(100)]
            means.append(np.stack(clips).mean(axis=(0, 1)))
        # means of 800 frames, over which the noise is 8 / sqrt(800)
        assert np.abs(means[0] - means[1]).max() < 3, label


@pytest.mark.parametrize('test_mode', [False, True])
def test_sampling_does_not_tell_the_direction(motion_pairs, test_mode):
    """MMAction2 picks the same moments from a clip played backwards."""
    path = motion_pairs / 'data/motion_pairs/videos/test/00000.avi'
    num_frames = len(frames_of(path))
    sample = TRANSFORMS.build(
        dict(type='SampleFrames', clip_len=1, num_clips=8, test_mode=test_mode)
    )
    seen = np.zeros(num_frames)
    np.random.seed(0)
    for _ in range(1000):
        results = sample(dict(total_frames=num_frames, start_index=0))
        np.add.at(seen, results['frame_inds'], 1 / 1000)
    # 1,000 draws out of three: the standard error is 1.5 %
    np.testing.assert_allclose(seen, seen[::-1], rtol=0, atol=0.06)


def test_every_frame_is_coded_by_itself(motion_pairs):
    path = motion_pairs / 'data/motion_pairs/videos/train/00000.avi'
    capture = cv2.VideoCapture(str(path))
    code = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, 'little')
    assert code == b'MJPG'
    reader = decord.VideoReader(str(path))
    assert reader.get_key_indices() == list(range(24))


def test_can_be_run_again(tmp_path):
    args = ('--num-train', 8, '--num-test', 8, '--size', 32)
    call(TOOL, tmp_path, *args, cwd=tmp_path)
    video = tmp_path / 'videos/train/00003.avi'
    before = frames_of(video)
    # interrupted: the list is written last
    (tmp_path / 'motion_pairs_train_list_videos.txt').unlink()
    video.unlink()
    out = call(TOOL, tmp_path, *args, cwd=tmp_path)
    assert 'motion_pairs_test_list_videos.txt is there' in out
    assert np.array_equal(frames_of(video), before)


@pytest.mark.parametrize(
    'args, error',
    [
        (('--num-train', 4), 'at least 8 videos per split'),
        (('--num-frames', 1), 'at least 2 frames'),
    ],
)
def test_bad_arguments(args, error, tmp_path):
    out = call(TOOL, tmp_path / 'x', *args, cwd=tmp_path, check=False)
    assert error in out and 'Traceback' not in out
    assert not (tmp_path / 'x').exists()


def test_other_videos_than_before(tmp_path):
    args = ('--num-test', 8, '--size', 32, '--num-train')
    call(TOOL, tmp_path, *args, 8, cwd=tmp_path)
    out = call(TOOL, tmp_path, *args, 16, cwd=tmp_path, check=False)
    assert 'expected 16 videos, got 8' in out
    out = call(TOOL, tmp_path, *args, 8, '--seed', 1, cwd=tmp_path, check=False)
    assert "'seed': 1}, got {" in out and 'Choose another folder' in out
