import sys

import numpy as np
import pytest
from mmaction.evaluation import mean_class_accuracy, top_k_accuracy
from scipy.stats import binom

from aia_mmaction.evaluation import comparison
from tools import ensemble as tool

from ..evaluation.test_dumps import make_dump

CLASSES = 8


@pytest.fixture
def dumps(tmp_path, monkeypatch):
    """Good and bad predictions of the same 60 videos, in another order."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, 60)
    found = {}
    for name, noise in (('good', 0.3), ('bad', 3)):
        scores = rng.normal(0, noise, (60, CLASSES))
        scores[range(60), labels] += 1
        order = rng.permutation(60)
        make_dump(
            tmp_path / f'{name}.pkl',
            [f'{i}.mp4' for i in order],
            scores[order].tolist(),
            labels[order].tolist(),
        )
        found[name] = scores
    return labels, found


def ensemble(monkeypatch, *args):
    monkeypatch.setattr(comparison, 'RESAMPLES', 50)
    monkeypatch.setattr(sys, 'argv', ['ensemble.py', *args])
    tool.main()


def test_metrics_are_mmaction2_s(dumps, monkeypatch, capsys):
    labels, scores = dumps
    ensemble(monkeypatch, 'good.pkl', 'bad.pkl')
    rows = [line.split('|') for line in capsys.readouterr().out.splitlines()]
    rows = {row[1].strip(): row[2:5] for row in rows if len(row) > 4}
    for name in ('good', 'bad'):
        top1, top5 = top_k_accuracy(scores[name], labels, (1, 5))
        expected = top1, top5, mean_class_accuracy(scores[name], labels)
        for cell, value in zip(rows[f'{name}.pkl'], expected):
            middle, low, high = (float(x.strip('[], ')) for x in cell.split())
            assert middle == pytest.approx(100 * value, abs=0.051)
            assert low <= middle <= high
    assert 'their mean' in rows


def test_against(dumps, monkeypatch, capsys):
    labels, scores = dumps
    ensemble(monkeypatch, 'good.pkl', '--against', 'bad.pkl')
    printed = capsys.readouterr().out
    good, bad = (scores[n].argmax(1) == labels for n in ('good', 'bad'))
    gained, lost = (good & ~bad).sum(), (bad & ~good).sum()
    p = min(1, 2 * binom.cdf(min(gained, lost), gained + lost, 0.5))
    assert (
        f'wrong: {gained}; wrong where it is right: {lost}. '
        f"McNemar's exact p = {p:.2g}."
    ) in printed
    differences = {
        k: 100 * (good[labels == k].mean() - bad[labels == k].mean())
        for k in range(CLASSES)
    }
    best = max(differences, key=differences.get)
    assert f'{differences[best]:+.1f}' in printed


def test_names_of_the_classes(dumps, monkeypatch, capsys, tmp_path):
    (tmp_path / 'labels.txt').write_text('\n'.join('abcdefgh'))
    ensemble(
        monkeypatch,
        'good.pkl',
        '--against',
        'bad.pkl',
        '--labels',
        'labels.txt',
        '--classes',
        '8',
    )
    printed = capsys.readouterr().out
    first_words = {line.split()[0] for line in printed.splitlines() if line.strip()}
    assert len(first_words & set('abcdefgh')) >= 2


def test_without_labels(tmp_path, monkeypatch):
    path = make_dump(tmp_path / 'p.pkl', ['a.mp4'], [[0.5, 0.5]])
    with pytest.raises(SystemExit, match='Expected labels.*submit.py'):
        ensemble(monkeypatch, str(path))
