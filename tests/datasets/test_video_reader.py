"""Frames as players show them, of files that other readers get wrong."""

import io

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader

from aia_mmaction.datasets import video_reader
from aia_mmaction.datasets.preparation.checking import check_video
from aia_mmaction.datasets.unreadable import UnreadableError
from aia_mmaction.datasets.video_reader import PyAVReader, Video, VideoError

from ..conftest import REPO, slow_but
from .test_unreadable import dataset, decode

av = pytest.importorskip('av')

HERE = REPO / 'tests' / 'data' / 'videos'
# More of the kind, where they are
ELSEWHERE = REPO.parent / 'shared' / 'real' / 'awkward'
FILES = sorted(
    {path.name: path for path in (*ELSEWHERE.glob('*'), *HERE.glob('*'))}.values()
)


def in_sequence(path):
    """All frames, one after the other, as PyAV decodes and the file turns them."""
    with av.open(str(path)) as container:
        return [
            np.rot90(frame.to_ndarray(format='rgb24'), frame.rotation // 90)
            for frame in container.decode(container.streams.video[0])
        ]


def can_be_decoded(path):
    try:
        with av.open(str(path)) as container:
            return sum(1 for _ in container.decode(container.streams.video[0])) > 0
    except (av.FFmpegError, IndexError):
        return False


VIDEOS = [path for path in FILES if path.suffix not in ('.md', '.tsv')]
READABLE = [path for path in VIDEOS if can_be_decoded(path)]
BROKEN = [path for path in VIDEOS if path not in READABLE]


def grey(frames):
    """What does not depend on how a library enlarges colours."""
    return np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames]).astype(int)


@pytest.mark.parametrize(
    'path',
    slow_but([p for p in READABLE if p.parent == HERE], READABLE),
    ids=lambda p: p.name,
)
def test_every_frame(path):
    expected = in_sequence(path)
    video = Video(path.read_bytes())
    assert len(video) == len(expected)
    # Each of them, then some in any order and more than once: decord seeks for each
    numbers = list(range(len(expected)))
    numbers += np.random.RandomState(0).choice(numbers, 20).tolist()
    got = video.get_batch(numbers).asnumpy()
    assert got.shape == (len(numbers), *expected[0].shape)
    difference = np.abs(grey(got) - grey([expected[i] for i in numbers]))
    assert difference.mean((1, 2)).max() <= 2


@pytest.mark.parametrize('path', BROKEN, ids=lambda path: path.name)
def test_never_a_part_of_a_video(path):
    with pytest.raises(VideoError):
        video = Video(path.read_bytes())
        video.get_batch(range(len(video)))


@pytest.mark.parametrize(
    'name, first, length', [('cut.mp4', 60, 180), ('bframes.avi', 0, 240)]
)
def test_brightness_is_time(name, first, length):
    video = Video((HERE / name).read_bytes())
    assert len(video) == length and video.get_avg_fps() == pytest.approx(30)
    numbers = [0, 50, 30, 100, length - 1]
    brightness = video.get_batch(numbers).asnumpy().mean((1, 2, 3))
    expected = 16 + 0.8 * (first + np.array(numbers))
    np.testing.assert_allclose(brightness, expected, atol=2.5)


def test_a_frame_that_is_not_there():
    for reader in ('cut.mp4', 'video_90.mov'):  # of PyAV, of decord
        video = Video((HERE / reader).read_bytes())
        with pytest.raises(IndexError, match=f'frames 0 to {len(video) - 1}, got'):
            video.get_batch([0, len(video)])


def two_streams(default):
    """A small, dark stream and a larger, bright one."""
    file = io.BytesIO()
    with av.open(file, 'w', format='matroska') as container:
        streams = []
        for size in (32, 64):
            stream = container.add_stream('mpeg4', rate=10)
            stream.width = stream.height = size
            stream.pix_fmt = 'yuv420p'
            streams.append(stream)
        flag = av.stream.Disposition.default
        for i, stream in enumerate(streams):
            stream.disposition = flag.value if i == default else 0
        for stream, grey_level in zip(streams, (30, 200)):
            for _ in range(5):
                image = np.full((stream.height, stream.width, 3), grey_level, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
            container.mux(stream.encode())
    return file.getvalue()


@pytest.mark.parametrize('default, grey_level', [(0, 30), (1, 200)])
def test_the_stream_that_players_show(default, grey_level):
    reader = PyAVReader(two_streams(default))
    assert len(reader) == 5
    assert reader.get_batch([2]).asnumpy().mean() == pytest.approx(grey_level, abs=4)


def test_ends_early(tmp_path):
    """The end of the file is missing; its header knows of all frames."""
    path = tmp_path / 'whole.mp4'
    with av.open(str(path), 'w', options=dict(movflags='faststart')) as out:
        with av.open(str(HERE / 'cut.mp4')) as container:
            source = container.streams.video[0]
            stream = out.add_stream_from_template(source)
            for packet in container.demux(source):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    whole = path.read_bytes()
    assert len(Video(whole)) == 180
    for share in (0.5, 0.9):
        with pytest.raises(VideoError):
            Video(whole[: int(len(whole) * share)])


def test_without_pyav(monkeypatch):
    monkeypatch.setattr(video_reader, 'has_pyav', lambda: False)
    with pytest.raises(
        VideoError, match='frames are not in order.*pip install "av>=15"'
    ):
        Video((HERE / 'cut.mp4').read_bytes())
    assert len(Video((HERE / 'video_90.mov').read_bytes())) == 3


def test_said_once(capfd):
    video_reader._say_once.cache_clear()
    for name in ('cut.mp4', 'bframes.avi'):
        Video((HERE / name).read_bytes())
    assert ''.join(capfd.readouterr()).count('are read by PyAV') == 1


@pytest.mark.parametrize('workers', [0, 2])
def test_dataset(tmp_path, workers):
    """Clips of several frames, by workers."""
    for name in ('cut.mp4', 'bframes.avi'):
        (tmp_path / name).write_bytes((HERE / name).read_bytes())
    pipeline = decode()
    pipeline[1].update(clip_len=4, frame_interval=10, num_clips=2)
    data = dataset(tmp_path, ['cut.mp4', 'bframes.avi'], pipeline, test_mode=True)
    samples = list(DataLoader(data, num_workers=workers, batch_size=None))
    for sample, first, length in zip(samples, (60, 0), (180, 240)):
        brightness = sample['inputs'].float().mean((1, 2, 3)).view(2, 4)
        # One step is ten frames.
        np.testing.assert_allclose(brightness.diff(dim=1), 8, atol=3)
        assert brightness[0, 0] >= 16 + 0.8 * first - 2
        assert brightness[1, 3] <= 16 + 0.8 * (first + length) + 2


def test_unreadable_is_named(tmp_path):
    name = 'invalid_vp9_bitstream-bug_1416.webm'
    (tmp_path / name).write_bytes((HERE / name).read_bytes())
    data = dataset(tmp_path, [name], decode(), test_mode=True)
    with pytest.raises(UnreadableError, match=f'{name} cannot be read: by decord'):
        data[0]


def test_several_videos_in_one_file_are_left_out(tmp_path):
    (tmp_path / 'two.mkv').write_bytes(two_streams(default=1))
    with pytest.raises(ValueError, match='2 video streams; keep one: ffmpeg'):
        check_video(tmp_path / 'two.mkv')
    assert check_video(HERE / 'cut.mp4') == 180
