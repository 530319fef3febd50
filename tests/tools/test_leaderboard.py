"""What `leaderboard.py` makes of models, with `mim test` played by a function."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from aia_mmaction.evaluation import leaderboard
from aia_mmaction.evaluation.dumps import DumpError, load_dump
from aia_mmaction.evaluation.submission import check_submission
from tools import leaderboard as tool

from ..evaluation.test_dumps import make_dump

VAL = ['1.webm', '2.webm', '3.webm']
TEST = ['9.webm', '8.webm']
LABELS = [0, 1, 2]


def one_hot(classes, num_classes, right):
    rest = (1 - right) / (num_classes - 1)
    return [[right if k == c else rest for k in range(num_classes)] for c in classes]


CONFIG = """
dataset = dict(ann_file='data/sthv2/sthv2_val_list_videos.txt', pipeline=[])
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
"""
# What the checkpoints predict, by name: of the validation list, of the test list
PREDICTED = {
    'good': (174, [0, 1, 2], [4, 5]),
    'bad': (174, [3, 3, 3], [6, 6]),
    'verbs': (97, [0, 1, 2], [4, 5]),
    'nouns': (300, [0, 1, 2], [7, 8]),
    'gestures': (27, [0, 1, 2], [4, 5]),
    'too_few': (5, [0, 1, 2], [3, 4]),
}


@pytest.fixture
def tested(tmp_path, monkeypatch):
    """A folder with lists and checkpoints; which checkpoints were tested."""
    monkeypatch.chdir(tmp_path)
    lists = tmp_path / 'data/sthv2'
    lists.mkdir(parents=True)
    text = ''.join(f'{name} {label}\n' for name, label in zip(VAL, LABELS))
    (lists / 'sthv2_val_list_videos.txt').write_text(text)
    (lists / 'sthv2_test_list_videos.txt').write_text('\n'.join(TEST))
    Path('model.py').write_text(CONFIG)
    for name in PREDICTED:
        Path(f'{name}.pth').write_bytes(b'weights')
    calls = []

    def mim_test(*command):
        words = [str(word) for word in command]
        name = Path(words[words.index('--checkpoint') + 1]).stem
        cfg = Config.fromfile(words[words.index('mmaction') + 1])
        of_val = 'val' in Path(cfg.test_dataloader.dataset.ann_file).name
        num_classes, *classes = PREDICTED[name]
        scores = one_hot(classes[0 if of_val else 1], num_classes, 0.6)
        out = words[words.index('--dump') + 1]
        if of_val:
            make_dump(out, VAL[::-1], scores[::-1], LABELS[::-1])
        else:
            make_dump(out, TEST, scores)
        calls.append((name, 'val' if of_val else 'test', cfg, words))

    monkeypatch.setattr(leaderboard, 'run_command', mim_test)
    return calls


def run(monkeypatch, name, *args):
    command = ['leaderboard.py', name, '--out-dir', 'out', *map(str, args)]
    monkeypatch.setattr(sys, 'argv', command)
    tool.main()


def models(*names):
    return ['--models', *(part for n in names for part in ('model.py', f'{n}.pth'))]


def test_every_model_is_tested_once(tested, monkeypatch):
    run(monkeypatch, 'sthv2', *models('good', 'bad'))
    assert [call[:2] for call in tested] == [
        ('good', 'val'),
        ('bad', 'val'),
        ('good', 'test'),
        ('bad', 'test'),
    ]
    first = Path('out/submission.csv').read_text()
    run(monkeypatch, 'sthv2', *models('good', 'bad'))
    assert len(tested) == 4 and Path('out/submission.csv').read_text() == first
    # A run that was stopped before the last one
    Path('out/2_model/test.json').unlink()
    run(monkeypatch, 'sthv2', *models('good', 'bad'))
    assert [call[:2] for call in tested[4:]] == [('bad', 'test')]


@pytest.mark.parametrize('change', ['checkpoint', 'list', 'protocol'])
def test_predictions_of_something_else_are_not_taken(tested, monkeypatch, change):
    run(monkeypatch, 'sthv2', *models('good'))
    options = []
    if change == 'checkpoint':
        Path('good.pth').write_bytes(b'other weights')
    elif change == 'list':
        path = Path('data/sthv2/sthv2_val_list_videos.txt')
        path.write_text(path.read_text().replace('1.webm 0', '1.webm 1'))
    else:
        options = ['--protocol', 'accurate']
    with pytest.raises(SystemExit, match='got those of something else'):
        run(monkeypatch, 'sthv2', *models('good'), *options)
    assert len(tested) == 2


def test_weights_are_chosen_on_the_validation_list(tested, monkeypatch):
    run(monkeypatch, 'sthv2', *models('bad', 'good'), '--choose-weights')
    rows = Path('out/accuracy.md').read_text().splitlines()
    (mean,) = [
        row for row in rows if 'their mean (0, 1, chosen on these videos)' in row
    ]
    assert '100.0 [100.0, 100.0]' in mean
    (bad,) = [row for row in rows if '1_model' in row]
    assert '0.0 [0.0, 0.0]' in bad
    first = [line.split(';')[1] for line in Path('out/submission.csv').open()]
    assert first == ['4', '5']


def test_protocol_and_processes(tested, monkeypatch):
    options = ['--protocol', 'accurate', '--processes', '3', '--no-validation']
    run(monkeypatch, 'sthv2', *models('good'), *options)
    ((_, split, cfg, words),) = tested
    assert split == 'test' and not Path('out/accuracy.md').exists()
    assert cfg.test_dataloader.dataset.protocol == 'accurate'
    assert cfg.test_dataloader.batch_size == 1
    assert words[-4:] == ['--launcher', 'pytorch', '--gpus', '3']


def test_finished_models_stay_so_with_another_number_of_processes(tested, monkeypatch):
    run(monkeypatch, 'sthv2', *models('good'))
    run(monkeypatch, 'sthv2', *models('good'), '--processes', '2')
    assert len(tested) == 2
    Path('out/1_model/test.json').unlink()
    run(monkeypatch, 'sthv2', *models('good'), '--processes', '2')
    *_, (_, _, cfg, words) = tested
    assert len(tested) == 3 and words[-4:] == ['--launcher', 'pytorch', '--gpus', '2']
    if not torch.cuda.is_available():
        assert cfg.env_cfg.dist_cfg.backend == 'gloo'


def test_lists_of_the_options(tested, monkeypatch):
    Path('val.txt').write_text('1.webm 0\n2.webm 1\n3.webm 2\n')
    options = ['--cfg-options', 'val_dataloader.dataset.ann_file=val.txt']
    test_list = ['--test-list', 'data/sthv2/sthv2_test_list_videos.txt']
    shutil.move('data/sthv2/sthv2_val_list_videos.txt', 'data/gone.txt')
    run(monkeypatch, 'sthv2', *models('good'), *test_list, *options)
    assert len(tested) == 2


def test_dumps_of_the_mean(tested, monkeypatch):
    run(monkeypatch, 'sthv2', *models('good', 'bad'), '--weights', '3', '1')
    found = load_dump(Path('out/test.pkl'))
    assert found.names == TEST and found.labels is None
    rest = 0.4 / 173
    assert found.scores[0, 4] == pytest.approx(0.75 * 0.6 + 0.25 * rest)
    found = load_dump(Path('out/val.pkl'))
    assert sorted(found.labels.tolist()) == LABELS


def test_names_of_classes(tested, monkeypatch):
    run(monkeypatch, 'jester', *models('gestures'))
    lines = Path('out/submission.csv').read_text().splitlines()
    assert lines == ['9;Pushing Hand Away', '8;Pulling Hand In']


def test_verbs_and_nouns(tested, monkeypatch):
    nouns = ['--noun-models', *models('nouns')[1:]]
    run(monkeypatch, 'epic', *models('verbs'), *nouns)
    results = json.loads(Path('out/submission.json').read_text())['results']
    action = results['9']['action']
    assert max(action, key=action.get) == '4,7' and len(action) == 100
    assert Path('out/accuracy.md').read_text().count('1_model') == 2
    with pytest.raises(SystemExit, match='--noun-models: expected pairs'):
        run(monkeypatch, 'epic', *models('verbs'))


@pytest.mark.parametrize('name', ['sthv2', 'jester'])
def test_what_the_server_refuses_is_not_written(tested, monkeypatch, name):
    with pytest.raises(SystemExit, match='classes, got 5'):
        run(monkeypatch, name, *models('too_few'))
    assert not Path('out/submission.csv').exists()


def test_arguments_are_checked_before_anything_is_tested(tested, monkeypatch):
    with pytest.raises(SystemExit, match='expected pairs of CONFIG CHECKPOINT, got 1'):
        run(monkeypatch, 'sthv2', *models('good')[:-1])
    for weights in (('1', '2'), ('-1',), ('0',)):
        with pytest.raises(SystemExit, match='Expected 1 weights, one for each model'):
            run(monkeypatch, 'sthv2', *models('good'), '--weights', *weights)
    with pytest.raises(SystemExit, match='--processes: expected 1 or more, got 0'):
        run(monkeypatch, 'sthv2', *models('good'), '--processes', '0')
    with pytest.raises(SystemExit, match='--noun-models: expected epic'):
        run(monkeypatch, 'sthv2', *models('good'), '--noun-models', 'a', 'b')
    with pytest.raises(SystemExit, match='gone.pth: expected a file'):
        run(monkeypatch, 'sthv2', *models('gone'))
    Path('few.py').write_text(CONFIG + 'model = dict(cls_head=dict(num_classes=5))')
    with pytest.raises(SystemExit, match='models of 174 classes, got 5'):
        run(monkeypatch, 'sthv2', *models('good'), 'few.py', 'too_few.pth')
    other = CONFIG.replace('_val_', '_other_val_')
    Path('other.py').write_text(other)
    for split in ('val', 'test'):
        path = Path(f'data/sthv2/sthv2_other_{split}_list_videos.txt')
        path.write_text('9.webm\n')
    with pytest.raises(SystemExit, match='epic: expected one test list for verbs'):
        nouns = ['--noun-models', 'other.py', 'nouns.pth']
        run(monkeypatch, 'epic', *models('verbs'), *nouns)
    os.remove('data/sthv2/sthv2_test_list_videos.txt')
    with pytest.raises(SystemExit, match='expected the test list of .*--test-list'):
        run(monkeypatch, 'sthv2', *models('good'))
    shutil.rmtree('data')
    with pytest.raises(SystemExit, match='expected the val list'):
        run(monkeypatch, 'sthv2', *models('good'), '--test-list', 'good.pth')
    assert not tested


GOOD = dict(
    sthv1='9;a\n8;b\n', sthv2='9;1;2;3;4;5\n8;0;2;3;4;173\n', jester='9;a\n8;b\n'
)


@pytest.mark.parametrize(
    'name, text, error',
    [
        ('sthv1', '9;a\n', 'each of 2 videos once, got 1 lines'),
        ('sthv1', '9;a\n9;b\n', 'got 2 lines of 1 videos'),
        ('sthv1', '9;a\n8;c\n', 'name of a class'),
        ('jester', '9;a\n8\n', 'name of a class'),
        ('sthv2', '9;1;2;3;4;5\n8;1;2;3;4\n', '5 different classes'),
        ('sthv2', '9;1;2;3;4;5\n8;1;2;3;4;4\n', '5 different classes'),
        ('sthv2', '9;1;2;3;4;5\n8;1;2;3;4;174\n', 'from 0 to 173'),
    ],
)
def test_what_servers_take(name, text, error):
    check_submission(name, GOOD[name], TEST, ['a', 'b'])
    with pytest.raises(DumpError, match=error):
        check_submission(name, text, TEST, ['a', 'b'])


def test_what_the_server_of_epic_takes():
    actions = [f'{k % 97},{k + 200}' for k in range(100)]
    keys = dict(verb=range(97), noun=range(300), action=actions)
    video = {kind: {str(k): 0.0 for k in found} for kind, found in keys.items()}
    good = dict(results={'9': video, '8': video})
    check_submission('epic', json.dumps(good), TEST)
    wrong = {**video, 'action': {**video['action'], '97,3': 0.0}}
    del wrong['action']['0,200']
    for bad in (
        {'9': video},
        {'9': video, '8': {**video, 'noun': {}}},
        {'9': video, '8': {**video, 'verb': {f'v{k}': 0.0 for k in range(97)}}},
        {'9': video, '8': wrong},  # there is no verb 97
    ):
        with pytest.raises(DumpError, match='epic: expected'):
            check_submission('epic', json.dumps(dict(results=bad)), TEST)
