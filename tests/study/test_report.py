"""What the report of a study says of runs whose predictions are known."""

import json
import re

import pytest
from mmengine.config import Config
from scipy.stats import binomtest

from aia_mmaction.study import Record, Study, write_report
from aia_mmaction.study.costs import digest

NAMES = ['left', 'right', 'wave']
LABELS = [0, 0, 1, 1, 2, 2, 2, 2]
RUNS = {
    'plain': [
        ([0, 1, 0, 1, 2, 2, 2, 0], [0, 1, 0, 1, 2, 2, 2, 2]),
        ([0, 0, 0, 0, 2, 2, 2, 2], [0, 0, 1, 1, 2, 2, 2, 2]),
    ],
    'attended': [
        ([0, 0, 1, 1, 2, 2, 2, 1], [1, 1, 0, 2, 2, 2, 2, 2]),
        ([0, 0, 1, 0, 2, 2, 2, 2], [1, 1, 0, 0, 2, 2, 2, 2]),
    ],
}


def record(model, seed, predicted, backwards):
    return Record(
        model=model,
        seed=seed,
        environment=dict.fromkeys(
            ('aia_mmaction', 'mmaction2', 'mmengine', 'torch', 'cpu', 'threads'), '1'
        ),
        seconds=1800,
        curve=[dict(step=step, loss=1.0, top1_acc=0.5) for step in (10, 20)],
        validation=[],
        videos=[f'{i}.mp4' for i in range(len(LABELS))],
        labels=LABELS,
        predicted=predicted,
        predicted_backwards=backwards,
    )


@pytest.fixture
def report(tmp_path):
    cfg = Config(dict(reversed_pairs=[(0, 1)]))
    costs = dict(
        config=digest(cfg), parameters=1000, multiply_adds=2_000_000, milliseconds=10.0
    )
    attended = dict(costs, parameters=1010, multiply_adds=2_100_000, milliseconds=12.0)
    (tmp_path / 'costs.json').write_text(
        json.dumps(
            dict(
                models=dict(plain=costs, attended=attended),
                environment=dict(repeats=30, threads=2, cpu='a CPU'),
                input=[1, 8, 3, 96, 96],
            )
        )
    )
    study = Study(
        title='A study',
        command='python tools/study.py',
        configs=dict.fromkeys(RUNS, cfg),
        baselines=dict.fromkeys(RUNS, 'plain'),
        runs={
            name: [record(name, i, *run) for i, run in enumerate(runs)]
            for name, runs in RUNS.items()
        },
        records=tmp_path.parent / 'records',
        class_names=NAMES,
    )
    write_report(tmp_path, study)
    for name in ('learning_curves.png', 'accuracy_and_time.png'):
        assert (tmp_path / name).exists()
    return (tmp_path / 'report.md').read_text()


def row(report, start):
    (line,) = re.findall(rf'^\| {start} \|.*$', report, re.M)
    return [cell.strip() for cell in line.strip('|').split('|')]


def test_accuracies(report):
    found = row(report, r'attended \| 87.5.*')
    # 7 of 8 both times; of the pair 4 and 3 of 4, and all with the direction ignored
    assert found[1:4] == ['87.5 ± 0.0 (87.5, 87.5)', '87.5 ± 17.7 (100.0, 75.0)'] + [
        '100.0 ± 0.0 (100.0, 100.0)'
    ]
    assert found[4:] == ['1,010 (+10)', '2 M (+5.00%)', '12.0 (×1.20)']
    assert 'left and right; they have 4 of the videos' in report


def test_differences(report):
    """Over both seeds it is right alone for three videos, and never wrong alone."""
    p = binomtest(3, 3).pvalue
    expected = ['plain', '+18.8', '3', '0', f'{p:.2g}']  # 3 of 16
    assert row(report, r'attended \| plain')[1:] == expected
    assert '| attended | right +50, left +25 | – |' in report


def test_played_backwards(report):
    """Of 8 videos: right forwards; another prediction; the own class, the other one,
    a third.
    """
    assert row(report, r'plain \| left, right')[2:] == ['50', '25', '75', '25', '0']
    assert row(report, r'attended \| left, right')[2:] == ['88', '88', '0', '88', '12']


def test_how_it_was_made(report):
    assert 'Seeds 0, 1; 4 trainings of 2.0 hours' in report
    assert '(`../records/MODEL/seedN.json`)' in report


def test_other_videos(tmp_path):
    one = record('plain', 0, *RUNS['plain'][0])
    other = one._replace(videos=[*one.videos[:-1], 'x.mp4'])
    runs = dict(plain=[one, other])
    study = Study('A study', '', {}, dict(plain='plain'), runs, tmp_path, NAMES)
    with pytest.raises(ValueError, match='records of the same test videos'):
        write_report(tmp_path, study)
