import io
import os
import pickle

import numpy as np
import pytest
import torch
from mmaction.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.fileio import dump

from aia_mmaction.evaluation.dumps import (
    DumpError,
    Predictions,
    combine,
    in_order_of,
    load_dump,
    name_videos,
)


def make_dump(path, names, scores, labels=None, key='filename'):
    """As MMEngine's DumpResults writes what MMAction2 predicts."""
    labels = [-1] * len(names) if labels is None else labels
    dump(
        [
            {
                key: f'data/videos/{name}',
                'num_classes': len(score),
                'pred_score': torch.tensor(score),
                'gt_label': torch.tensor(label).flatten(),
                'pred_label': torch.tensor(score).argmax(0, keepdim=True),
            }
            for name, score, label in zip(names, scores, labels)
        ],
        str(path),
    )
    return path


NAMES = ['b.webm', 'a.webm']
SCORES = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]


@pytest.mark.parametrize('key', ['filename', 'frame_dir'])
def test_videos_are_named_in_a_config_of_mmaction2(key, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(
        "_base_ = 'mmaction::recognition/tsn/"
        "tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb.py'"
    )
    cfg = Config.fromfile(path)
    name_videos(cfg)
    pack = TRANSFORMS.build(cfg.test_dataloader.dataset.pipeline[-1])
    frames = dict(imgs=np.zeros((1, 3, 8, 8)), img_shape=(8, 8), label=0)
    sample = pack({key: 'a.mp4', **frames})['data_samples']
    assert sample.get(key) == 'a.mp4'
    assert sample.img_shape == (8, 8)  # what it keeps by itself, too
    # and a config that names them is left as it is
    again = cfg.to_dict()
    name_videos(cfg)
    assert cfg.to_dict() == again


class TestLoading:
    def test_reads_what_was_dumped(self, tmp_path):
        path = make_dump(tmp_path / 'pred.pkl', NAMES, SCORES, [0, 1])
        found = load_dump(path)
        assert found.names == ['data/videos/b.webm', 'data/videos/a.webm']
        torch.testing.assert_close(found.scores, torch.tensor(SCORES).double())
        assert found.labels.tolist() == [0, 1]

    def test_folders_of_frames_without_labels(self, tmp_path):
        found = load_dump(make_dump(tmp_path / 'p.pkl', NAMES, SCORES, key='frame_dir'))
        assert found.names[0] == 'data/videos/b.webm'
        assert found.labels is None

    def test_of_mmaction2_1_1(self, tmp_path):
        """Which wrote labels and scores under other names."""
        path = tmp_path / 'p.pkl'
        dump(
            [
                dict(
                    filename=name,
                    pred_scores=dict(item=torch.tensor(score)),
                    gt_labels=dict(item=torch.tensor([1])),
                )
                for name, score in zip(NAMES, SCORES)
            ],
            str(path),
        )
        found = load_dump(path)
        torch.testing.assert_close(found.scores, torch.tensor(SCORES).double())
        assert found.labels.tolist() == [1, 1]

    def test_of_windows(self, tmp_path):
        names = ['my b.webm', 'a.webm']
        path = make_dump(tmp_path / 'p.pkl', [rf'C:\x\{n}' for n in names], SCORES)
        listed = tmp_path / 'list.txt'
        listed.write_bytes(b'\xef\xbb\xbfa.webm 1\r\nx\\my b.webm 0\r\n')
        found = in_order_of(listed, load_dump(path))
        assert found.names == ['a.webm', 'x/my b.webm']
        torch.testing.assert_close(found.scores, torch.tensor(SCORES[::-1]).double())

    def test_several_labels(self, tmp_path):
        path = make_dump(tmp_path / 'p.pkl', NAMES, SCORES, [[1, 0, 1], [0, 0, 1]])
        with pytest.raises(DumpError, match='expected one label .* got 3 numbers'):
            load_dump(path)

    def test_logits_become_probabilities(self, tmp_path):
        scores = [[3.0, -1.0, 0.0], [0.0, 0.0, 9.0]]
        found = load_dump(make_dump(tmp_path / 'p.pkl', NAMES, scores))
        torch.testing.assert_close(
            found.scores, torch.tensor(scores).double().softmax(1)
        )

    @pytest.mark.parametrize(
        'content,expected',
        [
            (b'', 'expected a dump'),
            (b'no pickle', 'expected a dump'),
            (pickle.dumps([]), 'expected a list'),
            (pickle.dumps([3]), "'pred_score'"),
            (pickle.dumps([dict(pred_score=[1.0])]), "'pred_score'"),
        ],
    )
    def test_no_dump(self, tmp_path, content, expected):
        path = tmp_path / 'pred.pkl'
        path.write_bytes(content)
        with pytest.raises(DumpError, match=f'pred.pkl: .*{expected}'):
            load_dump(path)

    def test_cut_off_anywhere(self, tmp_path):
        path = make_dump(tmp_path / 'pred.pkl', NAMES, SCORES)
        content = path.read_bytes()
        for end in range(0, len(content), 7):
            path.write_bytes(content[:end])
            with pytest.raises(DumpError, match='pred.pkl'):
                load_dump(path)

    def test_without_names(self, tmp_path):
        path = make_dump(tmp_path / 'pred.pkl', NAMES, SCORES, key='img')
        with pytest.raises(DumpError, match="meta_keys=.'filename'"):
            load_dump(path)

    def test_nan(self, tmp_path):
        path = make_dump(tmp_path / 'p.pkl', NAMES, [[float('nan')] * 2] * 2)
        with pytest.raises(DumpError, match='NaN'):
            load_dump(path)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class TestUntrusted:
    def check(self, tmp_path, content):
        path = tmp_path / 'pred.pkl'
        path.write_bytes(content)
        with pytest.raises(DumpError, match='pred.pkl'):
            load_dump(path)
        assert not (tmp_path / 'ran').exists()

    def test_code(self, tmp_path):
        self.check(tmp_path, pickle.dumps([Malicious(tmp_path / 'ran')]))

    def test_code_in_a_storage(self, tmp_path):
        """PyTorch reads a storage of a pickle by a pickle of its own."""
        inner = io.BytesIO()
        torch.save(
            Malicious(tmp_path / 'ran'), inner, _use_new_zipfile_serialization=False
        )

        class Outer:
            def __reduce__(self):
                return torch.storage._load_from_bytes, (inner.getvalue(),)

        self.check(tmp_path, pickle.dumps([Outer()]))


class TestOrder:
    predictions = Predictions(
        ['data/v/x/b.mp4', 'data/v/y/a.mp4', 'data/v/x/a.mp4'],
        torch.eye(3).double(),
        torch.tensor([0, 1, 2]),
    )

    def order(self, tmp_path, lines):
        path = tmp_path / 'list.txt'
        path.write_text('\n'.join(lines))
        return in_order_of(path, self.predictions)

    def test_of_the_list(self, tmp_path):
        found = self.order(tmp_path, ['x/a.mp4 7', 'x/b.mp4', 'y/a.mp4 1'])
        assert found.names == ['x/a.mp4', 'x/b.mp4', 'y/a.mp4']
        assert found.scores.argmax(1).tolist() == [2, 0, 1]
        assert found.labels.tolist() == [2, 0, 1]

    @pytest.mark.parametrize(
        'lines,expected',
        [
            (['x/a.mp4', 'x/b.mp4'], '0 are missing, 1 are too many'),
            (
                ['x/a.mp4', 'x/b.mp4', 'y/a.mp4', 'z/c.mp4'],
                '1 are missing .z/c.mp4., 0 are too many',
            ),
            (['x/a.mp4', 'x/b.mp4', 'z/c.mp4'], '1 are missing.* 1 are too many'),
            (['x/a.mp4', 'x/b.mp4', 'y/a.mp4', 'x/a.mp4'], 'one prediction'),
        ],
    )
    def test_not_one_to_one(self, tmp_path, lines, expected):
        with pytest.raises(DumpError, match=expected):
            self.order(tmp_path, lines)

    def test_a_video_twice_in_the_dump(self, tmp_path):
        names = [*self.predictions.names[:2], self.predictions.names[0]]
        path = tmp_path / 'list.txt'
        path.write_text('x/b.mp4\ny/a.mp4\n')
        with pytest.raises(DumpError, match='1 are too many'):
            in_order_of(path, self.predictions._replace(names=names))


class TestCombining:
    first = Predictions(
        ['a', 'b'], torch.tensor([[1.0, 0], [0.5, 0.5]]).double(), torch.tensor([0, 1])
    )
    second = Predictions(
        ['b', 'a'],
        torch.tensor([[0.1, 0.9], [0.2, 0.8]]).double(),
        torch.tensor([1, 0]),
    )

    def test_weighted_by_name(self):
        found = combine([self.first, self.second], [3, 1])
        assert found.names == ['a', 'b']
        torch.testing.assert_close(
            found.scores, torch.tensor([[0.8, 0.2], [0.4, 0.6]]).double()
        )

    @pytest.mark.parametrize(
        'change',
        [
            dict(names=['b', 'c']),
            dict(names=['b', 'b']),
            dict(scores=torch.ones(2, 3)),
            dict(labels=torch.tensor([0, 0])),
            dict(labels=None),
        ],
    )
    def test_of_something_else(self, change):
        with pytest.raises(DumpError, match='dump 2'):
            combine([self.first, self.second._replace(**change)])

    @pytest.mark.parametrize('weights', [[1], [1, -1], [0, 0]])
    def test_weights(self, weights):
        with pytest.raises(DumpError, match='Expected 2 weights'):
            combine([self.first, self.second], weights)
