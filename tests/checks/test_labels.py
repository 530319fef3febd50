import pickle

import pytest
from mmaction.registry import DATASETS
from torch import nn

from .conftest import Checked


class Head(nn.Module):
    num_classes = 3


@pytest.fixture
def run(recognizer, tmp_path):
    def make(lines, phase='train', kind='VideoDataset', head=True, **options):
        path = tmp_path / 'list.txt'
        path.write_text(lines, encoding='utf-8')
        dataset = DATASETS.build(
            dict(type=kind, ann_file=str(path), pipeline=[], **options)
        )
        return Checked(recognizer(cls_head=Head()), **{phase: dataset})

    return make


@pytest.mark.parametrize('phase', ['train', 'val', 'test'])
def test_label_beyond_the_classes(run, phase):
    checked = run('a.mp4 0\n\nb.mp4 3\nc.mp4 4\n', phase, data_prefix=dict(video='d'))
    with pytest.raises(
        ValueError,
        match=f'{phase}_dataloader: expected labels from 0 to 2, as '
        r'model.cls_head.num_classes = 3 says, got 3 for d.b.mp4 \(.*list.txt, line 3\)'
        ', and 1 more',
    ):
        getattr(checked, 'train' if phase == 'val' else phase)()


@pytest.mark.parametrize(
    'lines, kind, options, got',
    [
        ('a 3 0\nb 5 3\n', 'RawframeDataset', {}, r'got 3 for b \(.*line 2'),
        ('a 0 3 0\nb 2 5 7\n', 'RawframeDataset', dict(with_offset=True), 'line 2'),
        ('a.mp4,0\nb.mp4,3\n', 'VideoDataset', dict(delimiter=','), 'line 2'),
        ('a.mp4 0 1\nb.mp4 2 3\n', 'VideoDataset', dict(num_classes=3), 'got 3 for b'),
        ('a.mp4 0\nb.mp4\n', 'VideoDataset', {}, r'got none for b.mp4 \(.*line 2'),
    ],
)
def test_kinds_of_lists(run, lines, kind, options, got):
    checked = run(lines, kind=kind, multi_class='num_classes' in options, **options)
    with pytest.raises(ValueError, match=got):
        checked.train()


def test_skeletons(recognizer, tmp_path):
    path = tmp_path / 'skeletons.pkl'
    samples = [dict(frame_dir=f's{i}', label=2 + i, total_frames=1) for i in (0, 1)]
    path.write_bytes(pickle.dumps(samples))
    dataset = DATASETS.build(dict(type='PoseDataset', ann_file=str(path), pipeline=[]))
    with pytest.raises(ValueError, match=r'got 3 for s1 \(.*skeletons.pkl\)'):
        Checked(recognizer(cls_head=Head()), test=dataset).test()


@pytest.mark.parametrize('wrapper', ['RepeatDataset', 'ConcatDataset'])
def test_wrapped_datasets(run, wrapper):
    checked = run('a.mp4 3\n')
    loader = checked.runner.train_loop.dataloader
    loader.dataset = DATASETS.build(
        dict(type=wrapper, dataset=loader.dataset, times=2)
        if wrapper == 'RepeatDataset'
        else dict(type=wrapper, datasets=[loader.dataset])
    )
    with pytest.raises(ValueError, match='got 3 for a.mp4'):
        checked.train()


def test_list_without_labels(run, capfd):
    """Leaderboards' test lists have none."""
    lines = 'a.mp4\nb.mp4\n'
    run(lines, 'test').test()
    assert 'list.txt has no labels' in ''.join(capfd.readouterr())
    for phase in ('train', 'val'):
        with pytest.raises(ValueError, match='got none for a.mp4'):
            run(lines, phase).train()


def test_vectors_of_another_length(run):
    """Loss and metric would compare different classes."""
    checked = run('a.mp4 0 4\n', multi_class=True, num_classes=5)
    with pytest.raises(ValueError, match='num_classes=3 of the dataset, .* got 5'):
        checked.train()


AVA = 'v,902,0.1,0.1,0.5,0.5,{},0\n'


@pytest.mark.parametrize('kind', ['AVADataset', 'AVAKineticsDataset'])
def test_detection(run, kind):
    options = dict(kind=kind, num_classes=4, exclude_file=None, label_file=None)
    checked = run(AVA.format(2), **options)
    with pytest.raises(ValueError, match='expected num_classes=3 of the dataset'):
        checked.train()
    with pytest.raises(
        ValueError, match='list.txt, line 2: expected a label from 0 to 3'
    ):
        run(AVA.format(2) + AVA.format(4), **options)


def test_skeletons_without_labels(recognizer, tmp_path):
    path = tmp_path / 'skeletons.pkl'
    path.write_bytes(pickle.dumps([dict(frame_dir='s', label=None, total_frames=1)]))
    dataset = DATASETS.build(dict(type='PoseDataset', ann_file=str(path), pipeline=[]))
    Checked(recognizer(cls_head=Head()), test=dataset).test()


def test_sound(run):
    run('a.mp4 0\nb.mp4 2\n').train()
    run('a.mp4 0 2\n', multi_class=True, num_classes=3).train()
    checked = run('a.mp4 7\n')
    checked.runner.model = nn.Identity()  # without classes
    checked.train()
