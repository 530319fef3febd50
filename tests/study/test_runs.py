"""What a study runs, with `mim` played by a function."""

from pathlib import Path

import pytest

from aia_mmaction.study import Model, run_all, runs

CONFIG = "model = dict(backbone=dict(type='ResNet'))\n"


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """The commands of a study in ``tmp_path``, which all do nothing."""
    monkeypatch.chdir(tmp_path)
    Path('net.py').write_text(CONFIG)
    found = []
    monkeypatch.setattr(runs, 'run_command', lambda *c: found.append(list(map(str, c))))
    monkeypatch.setattr(runs, '_test', lambda *args: (['a.mp4'], [0], [0]))
    return found


def study(**kwargs):
    models = [Model(Path('net.py'))]
    return run_all(models, [3, 4], {}, Path('work'), Path('records'), **kwargs)


def test_each_seed_starts_from_its_own_checkpoint(commands):
    study(load_from='plain/seed{seed}/epoch_12.pth')
    assert [command[-4:] for command in commands] == [
        [
            '--seed',
            f'{seed}',
            '--cfg-options',
            f'load_from=plain/seed{seed}/epoch_12.pth',
        ]
        for seed in (3, 4)
    ]


def test_what_has_begun_is_resumed_and_not_loaded_again(commands):
    work_dir = Path('work/net/seed3')
    work_dir.mkdir(parents=True)
    (work_dir / 'last_checkpoint').write_text('epoch_1.pth')
    study(load_from='plain/seed{seed}/epoch_12.pth')
    assert '--resume' in commands[0] and '--cfg-options' not in commands[0]
    assert '--resume' not in commands[1] and '--cfg-options' in commands[1]


def test_nothing_is_done_twice(commands):
    study()
    assert len(commands) == 2
    study()
    assert len(commands) == 2
