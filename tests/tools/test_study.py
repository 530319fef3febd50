"""tools/study.py, with what `mim` finds played by a function."""

import json
import sys
from pathlib import Path

import pytest

from aia_mmaction.study import runs
from tools import study as tool

from ..conftest import REPO

CONFIG = REPO / 'configs/tsn_r18_cinst_motion-pairs.py'
LABELS = [0, 1, 0, 1]
PREDICTED = {'plain': [0, 1, 1, 0], 'STinC': [0, 1, 0, 0]}


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """The commands of a study in ``tmp_path``, which do nothing."""
    monkeypatch.chdir(tmp_path)
    found = []

    def test(config, work_dir, name):
        module = work_dir.parent.name.split('+')[-1]
        return [f'{i}.avi' for i in range(4)], LABELS, PREDICTED[module]

    def train(*command):
        found.append(command)
        Path(command[command.index('--work-dir') + 1]).mkdir(parents=True)

    monkeypatch.setattr(runs, 'run_command', train)
    monkeypatch.setattr(runs, '_test', test)
    curve = [dict(step=10, loss=1.0, top1_acc=0.5, time=1.0)]
    monkeypatch.setattr(runs, '_scalars', lambda *args: curve)
    (tmp_path / 'labels.txt').write_text(''.join(f'class {i}\n' for i in range(8)))
    monkeypatch.setattr('aia_mmaction.study.costs.REPEATS', 1)
    return found


def study(monkeypatch, *args):
    command = ['study.py', str(CONFIG), '--labels', 'labels.txt', '--out', 'out', *args]
    monkeypatch.setattr(sys, 'argv', command)
    tool.main()


def test_report(commands, monkeypatch, tmp_path):
    options = ['--cfg-options', 'train_cfg.max_epochs=1']
    args = ['--modules', 'plain', 'STinC', '--seeds', '0', '1', '--records', 'records']
    study(monkeypatch, *args, *options)
    assert len(commands) == 4  # trainings
    report = (tmp_path / 'out/report.md').read_text()
    name = CONFIG.stem
    assert f'| {name}+plain | 50.0 ± 0.0 (50.0, 50.0) |' in report
    # right alone in one video, with both seeds
    assert f'| {name}+STinC | {name}+plain | +25.0 | 2 | 0 |' in report
    assert 'class 0 and class 1; they have 4 of the videos' in report
    record = json.loads((tmp_path / f'records/{name}+STinC/seed1.json').read_text())
    assert record['predicted'] == PREDICTED['STinC']
    # Another report of the same records
    study(monkeypatch, *args[:-2], '--records', 'records', *options)
    assert len(commands) == 4


def test_labels_of_other_classes(commands, monkeypatch, tmp_path):
    (tmp_path / 'labels.txt').write_text('one\n')
    with pytest.raises(SystemExit, match='expected num_classes=8 names .* got 1'):
        study(monkeypatch)
    assert not commands
