import pytest
from mmaction.datasets import RawframeDataset, VideoDataset

from aia_mmaction.datasets.list_file import ListFileError, read_list


def write(tmp_path, text):
    path = tmp_path / 'list.txt'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize(
    'text, expected',
    [
        ('a.mp4 1\nb.mp4 2\n', [('a.mp4', 1), ('b.mp4', 2)]),
        ('a.mp4 1\r\nb.mp4 2\r\n', [('a.mp4', 1), ('b.mp4', 2)]),
        ('\ufeffa.mp4\t1\n', [('a.mp4', 1)]),
        ('\n a.mp4   1 \n\n', [('a.mp4', 1)]),
        ('my dir/a b.mp4 1\n', [('my dir/a b.mp4', 1)]),
        ('my dir/take 2 1\n', [('my dir/take 2', 1)]),
        ('a.mp4\nmy b.mp4\n', [('a.mp4', -1), ('my b.mp4', -1)]),
        ('Hände.mp4 1', [('Hände.mp4', 1)]),
    ],
)
def test_videos(tmp_path, text, expected):
    dataset = VideoDataset(write(tmp_path, text), pipeline=[])
    assert [(s['filename'], s['label']) for s in dataset] == expected


@pytest.mark.parametrize(
    'text, options, expected',
    [
        ('a 30 1\n\nb\t25 2\n', {}, [('a', 30, 1), ('b', 25, 2)]),
        ('\ufeffmy dir/a 30 1\r\n', {}, [('my dir/a', 30, 1)]),
        ('a 30\n', {}, [('a', 30, -1)]),
        ('my a 7 30 1\n', dict(with_offset=True), [('my a', 30, 1)]),
        ('a 30 1 2\n', dict(multi_class=True, num_classes=3), [('a', 30, [0, 1, 1])]),
    ],
)
def test_frames(tmp_path, text, options, expected):
    dataset = RawframeDataset(write(tmp_path, text), pipeline=[], **options)
    found = [(s['frame_dir'], s['total_frames'], s['label']) for s in dataset]
    if 'multi_class' in options:
        found = [(name, frames, label.tolist()) for name, frames, label in found]
    assert found == expected
    if 'with_offset' in options:
        assert dataset[0]['offset'] == 7


def test_none_of_several_labels(tmp_path):
    """Which is a video of no class, not one of the last."""
    options = dict(pipeline=[], multi_class=True, num_classes=3)
    for dataset, text in (
        (VideoDataset, 'a.mp4\nb.mp4 1\n'),
        (RawframeDataset, 'a 30\nb 30 1\n'),
    ):
        found = dataset(write(tmp_path, text), **options)
        assert [s['label'].tolist() for s in found] == [[0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    'text, frames, error',
    [
        ('', 0, 'expected a line for each video .* got none'),
        ('\n \n', 0, 'got none'),
        ('a.mp4 1\nb.mp4 abseiling\n', 0, 'line 2: expected a name label, .* abseil'),
        ('b.mp4 1.0\n', 0, 'line 1'),
        ('a b\n', 0, 'line 1'),
        ('a 30 1\nb\n', 1, 'line 2: expected a name total_frames label'),
        ('a 3 abseiling\n', 1, 'line 1'),
        ('a 30\n', 2, 'line 1: expected a name offset total_frames label'),
        (b'\xff\xfe1\n', 0, 'expected text in UTF-8'),
    ],
)
def test_what_is_not_plain(tmp_path, text, frames, error):
    with pytest.raises(ListFileError, match=f'list.txt.*{error}'):
        read_list(write(tmp_path, text), frames)


def test_delimiter(tmp_path):
    path = write(tmp_path, 'a b.mp4,1\nc.mp4, 2\n')
    assert [entry[1:] for entry in read_list(path, delimiter=',')] == [
        ('a b.mp4', [1]),
        ('c.mp4', [2]),
    ]
    path = write(tmp_path, 'c.mp4,abseiling\n')
    with pytest.raises(ListFileError, match='line 1'):
        read_list(path, delimiter=',')
