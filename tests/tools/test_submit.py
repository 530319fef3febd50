import json
import sys

import pytest

from tools import submit as tool

from ..evaluation.test_dumps import make_dump

# Six classes; the best of 7 and 5 are 1, 2, 3, 4, 5 and 4, 3, 2, 1, 0.
SCORES = [[0.01, 0.3, 0.25, 0.2, 0.14, 0.1], [0.14, 0.15, 0.2, 0.21, 0.3, 0.0]]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'list.txt').write_text('5.webm\n7.webm\n')
    make_dump(tmp_path / 'pred.pkl', ['7.webm', '5.webm'], SCORES)
    return tmp_path


def submit(monkeypatch, *args):
    monkeypatch.setattr(
        sys,
        'argv',
        ['submit.py', *args, '--list', 'list.txt', '--out', 'submission.txt'],
    )
    tool.main()


def test_sthv2(files, monkeypatch):
    submit(monkeypatch, 'sthv2', 'pred.pkl')
    assert (files / 'submission.txt').read_text() == '5;4;3;2;1;0\n7;1;2;3;4;5\n'


def test_several_dumps(files, monkeypatch):
    make_dump(
        files / 'other.pkl',
        ['5.webm', '7.webm'],
        [[0, 0, 0, 0, 0, 1.0], [0, 0, 0, 1.0, 0, 0]],
    )
    submit(monkeypatch, 'sthv2', 'pred.pkl', 'other.pkl', '--weights', '1', '3')
    assert (files / 'submission.txt').read_text() == '5;5;4;3;2;1\n7;3;1;2;4;5\n'


def test_sthv1(files, monkeypatch):
    (files / 'labels.txt').write_text('\n'.join('abcdef'))
    submit(monkeypatch, 'sthv1', 'pred.pkl', '--labels', 'labels.txt')
    assert (files / 'submission.txt').read_text() == '5;e\n7;b\n'


def test_labels_with_a_byte_order_mark(files, monkeypatch):
    """As Windows writes them, and with letters of all languages."""
    text = '\ufeffHolding\r\nb\r\nc\r\nd\r\nżółw\r\nf\r\n'
    (files / 'labels.txt').write_bytes(text.encode())
    make_dump(files / 'pred.pkl', ['7.webm', '5.webm'], [[1.0, *[0.0] * 5], SCORES[1]])
    submit(monkeypatch, 'sthv1', 'pred.pkl', '--labels', 'labels.txt')
    assert (files / 'submission.txt').read_bytes().decode() == '5;żółw\n7;Holding\n'


def test_labels_of_another_dataset(files, monkeypatch):
    with pytest.raises(SystemExit, match='expected names of 6 classes.*got 174'):
        submit(monkeypatch, 'sthv1', 'pred.pkl')


def test_epic(files, monkeypatch):
    make_dump(files / 'nouns.pkl', ['7.webm', '5.webm'], [[0.9, 0.1], [0.4, 0.6]])
    submit(monkeypatch, 'epic', '--verbs', 'pred.pkl', '--nouns', 'nouns.pkl')
    found = json.loads((files / 'submission.txt').read_text())
    assert found['challenge'] == 'action_recognition'
    assert list(found['results']) == ['5', '7']
    video = found['results']['7']
    assert len(video['verb']) == 6 and len(video['noun']) == 2
    assert len(video['action']) == 12
    best = max(video['action'], key=video['action'].get)
    assert best == '1,0'
    assert video['action'][best] == pytest.approx(0.3 * 0.9)


def test_nothing_is_lost_on_an_error(files, monkeypatch):
    (files / 'submission.txt').write_text('the last one')
    (files / 'list.txt').write_text('5.webm\n')
    with pytest.raises(SystemExit, match='1 are too many'):
        submit(monkeypatch, 'sthv2', 'pred.pkl')
    assert (files / 'submission.txt').read_text() == 'the last one'
