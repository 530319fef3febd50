"""The report of a study: tables, plots, and how they were made."""

import os
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from mmengine.config import Config

from aia_mmaction.evaluation.comparison import compare
from aia_mmaction.utils.files import write_text

from .costs import read_or_measure
from .plots import plot_curves, plot_tradeoff
from .runs import Record

Runs = Mapping[str, Sequence[Record]]  # of each model
MOST_CHANGED = 5  # classes at either end of a table


class Study(NamedTuple):
    """What a report is about."""

    title: str
    command: str
    configs: Mapping[str, Config]  # of each model
    baselines: Mapping[str, str]  # what each model is compared with
    runs: Runs
    records: Path  # the folder of configs and records
    class_names: Sequence[str]

    @property
    def pairs(self) -> List[Tuple[int, int]]:
        """Classes that are each other played backwards, and have test videos."""
        cfg = next(iter(self.configs.values()))
        records = next(iter(self.runs.values()))
        tested = set(records[0].labels)
        return [(a, b) for a, b in cfg.get('reversed_pairs', ()) if tested & {a, b}]


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def percent(values: Sequence[float]) -> str:
    """Accuracies as a cell of a table: mean, standard deviation, and each."""
    each = ', '.join(f'{100 * value:.1f}' for value in values)
    if len(values) == 1:
        return each
    return f'{100 * mean(values):.1f} ± {100 * stdev(values):.1f} ({each})'


def accuracy(record: Record, classes: Optional[Sequence[int]] = None) -> float:
    """Top-1, of the videos of all or some classes."""
    right = [
        guess == label
        for guess, label in zip(record.predicted, record.labels)
        if classes is None or label in classes
    ]
    return mean(map(float, right))


def pair_accuracy(record: Record, pairs: Sequence[Tuple[int, int]]) -> float:
    """Top-1 of the videos of reversed classes, where either of a pair will do."""
    partner = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    right = [
        guess in (label, partner[label])
        for guess, label in zip(record.predicted, record.labels)
        if label in partner
    ]
    return mean(map(float, right))


def write_report(folder: Path, study: Study, *more: str) -> None:
    """Write ``report.md`` and its plots.

    Args:
        folder (Path): For the report; what the networks cost is kept there, too.
        study (Study): What it is about.
        *more (str): Paragraphs to be added.

    Raises:
        ValueError: If the models were tested on different videos.
    """
    records = [record for runs in study.runs.values() for record in runs]
    if len({(tuple(r.videos), tuple(r.labels)) for r in records}) != 1:
        raise ValueError(
            f'{folder}: expected records of the same test videos, got different '
            'ones. Delete those of an older list.'
        )
    folder.mkdir(parents=True, exist_ok=True)
    costs = read_or_measure(folder / 'costs.json', study.configs)
    plot_curves(study.runs, folder / 'learning_curves.png')
    top1 = {name: mean(map(accuracy, runs)) for name, runs in study.runs.items()}
    milliseconds = {
        name: costs['models'][name]['milliseconds'] for name in study.configs
    }
    plot_tradeoff(milliseconds, top1, folder / 'accuracy_and_time.png')
    paragraphs = [
        f'# {study.title}',
        _results(study, costs),
        '![accuracy and time per clip](accuracy_and_time.png)',
        *_differences(study),
        *_backwards(study),
        '## Training',
        '![learning curves](learning_curves.png)',
        _how(folder, study, costs),
        *more,
    ]
    path = folder / 'report.md'
    write_text(path, '\n\n'.join(paragraphs) + '\n')
    print(f'\n{paragraphs[1]}\n\nSee {path}')


def _results(study: Study, costs: Mapping[str, Any]) -> str:
    header = ['model', 'top-1 (%)']
    classes = sorted({label for pair in study.pairs for label in pair})
    if classes:
        header += ['on reversed pairs (%)', 'direction ignored (%)']
    header += ['parameters', 'multiply-adds', 'ms per clip']
    rows = []
    for name, runs in study.runs.items():
        row = [name, percent([accuracy(run) for run in runs])]
        if classes:
            row += [
                percent([accuracy(run, classes) for run in runs]),
                percent([pair_accuracy(run, study.pairs) for run in runs]),
            ]
        own = costs['models'][name]
        plain = costs['models'][study.baselines[name]]
        more = own['parameters'] - plain['parameters']
        work = own['multiply_adds'] / plain['multiply_adds'] - 1
        slower = own['milliseconds'] / plain['milliseconds']
        row += [
            f'{own["parameters"]:,} ({more:+,})',
            f'{own["multiply_adds"] / 1e6:,.0f} M ({work:+.2%})',
            f'{own["milliseconds"]:.1f} (×{slower:.2f})',
        ]
        rows.append(row)
    record = study.runs[rows[0][0]][0]
    text = (
        f'{len(record.videos)} test videos of {len(set(record.labels))} classes. '
        'Accuracies are means and standard deviations over the seeds, with that of '
        'each in brackets.'
    )
    if classes:
        of_pairs = sum(label in classes for label in record.labels)
        names = '; '.join(
            ' and '.join(study.class_names[label] for label in pair)
            for pair in study.pairs
        )
        text += (
            f' Reversed pairs are classes that are each other played backwards: '
            f'{names}; they have {of_pairs} of the videos.'
        )
    baselines = ', '.join(sorted(set(study.baselines.values())))
    text += (
        f' Parameters, multiply-adds and time are compared with {baselines}. '
        'Multiply-adds are those of convolutions, linear layers and norms, as MMEngine '
        'counts them; the products of maps in a non-local block are not among them.'
    )
    return f'{text}\n\n{table(header, rows)}'


def _pooled(runs: Sequence[Record]) -> Tuple[np.ndarray, np.ndarray]:
    """Predictions and labels of all seeds."""
    return (
        np.array([guess for run in runs for guess in run.predicted]),
        np.array([label for run in runs for label in run.labels]),
    )


def _differences(study: Study) -> List[str]:
    compared = {n: base for n, base in study.baselines.items() if n != base}
    if not compared:
        return []
    rows, details = [], []
    for name, base in compared.items():
        predicted, labels = _pooled(study.runs[name])
        found = compare(predicted, _pooled(study.runs[base])[0], labels)
        difference = (found.gained - found.lost) / len(labels)
        rows.append(
            (
                name,
                base,
                f'{100 * difference:+.1f}',
                found.gained,
                found.lost,
                f'{found.p:.2g}',
            )
        )
        helped = found.classes[:MOST_CHANGED]
        hurt = found.classes[: -MOST_CHANGED - 1 : -1]
        details.append(
            (
                name,
                _classes([c for c in helped if c.difference > 0], study.class_names),
                _classes([c for c in hurt if c.difference < 0], study.class_names),
            )
        )
    return [
        '## Differences',
        "McNemar's exact test on the predictions of all seeds together, which takes "
        'the seeds for independent videos. Right and wrong are against the model that '
        'is compared with.',
        table(
            ('model', 'against', 'top-1', 'right alone', 'wrong alone', 'p'),
            rows,
        ),
        f'The classes that change most, up to {MOST_CHANGED}, in percent of their '
        'videos:',
        table(('model', 'better', 'worse'), details),
    ]


def _classes(found: Sequence[Any], names: Sequence[str]) -> str:
    cells = [f'{names[c.number]} {100 * c.difference:+.0f}' for c in found]
    return ', '.join(cells) or '–'


def _backwards(study: Study) -> List[str]:
    if not study.pairs:
        return []
    rows = []
    for name, runs in study.runs.items():
        for a, b in study.pairs:
            counts = dict(right=0, changed=0, own=0, partner=0, other=0)
            total = 0
            for run in runs:
                assert run.predicted_backwards is not None  # as the config has pairs
                for before, after, label in zip(
                    run.predicted, run.predicted_backwards, run.labels
                ):
                    if label in (a, b):
                        total += 1
                        partner = b if label == a else a
                        kinds = {label: 'own', partner: 'partner'}
                        counts[kinds.get(after, 'other')] += 1
                        counts['right'] += before == label
                        counts['changed'] += before != after
            pair = f'{study.class_names[a]}, {study.class_names[b]}'
            shares = [f'{100 * n / total:.0f}' for n in counts.values()]
            rows.append((name, pair, *shares))
    return [
        '## The reversed pairs, forwards and backwards',
        'The test videos of the reversed pairs, in percent. "Right": they are played '
        'forwards. In the other columns, their frames are in reverse order. '
        '"Changed": the network predicts another class than for the video '
        'played forwards; a network that averages over frames never does. Then what '
        'it predicts: the class of the video as it was recorded; the other class of '
        'the pair, which is what the reversed video shows; or any other class.',
        table(
            (
                'model',
                'pair',
                'right',
                'changed',
                'as recorded',
                'as shown',
                'another class',
            ),
            rows,
        ),
    ]


def _how(folder: Path, study: Study, costs: Mapping[str, Any]) -> str:
    where = Path(os.path.relpath(study.records, folder)).as_posix() + '/'
    where = '' if where == './' else where
    records = [record for runs in study.runs.values() for record in runs]
    environments: Dict[str, int] = {}
    for record in records:
        env = record.environment
        text = (
            f'aia_mmaction {env["aia_mmaction"]}, mmaction2 {env["mmaction2"]}, '
            f'mmengine {env["mmengine"]}, torch {env["torch"]}, {env["threads"]} '
            f'threads of {env["cpu"]}'
        )
        environments[text] = environments.get(text, 0) + 1
    machines = '; '.join(f'{text} ({n} runs)' for text, n in environments.items())
    hours = sum(record.seconds for record in records) / 3600
    seeds = sorted({record.seed for record in records})
    env = costs['environment']
    return (
        f'```shell\n{study.command}\n```\n\n'
        f'Seeds {", ".join(map(str, seeds))}; {len(records)} trainings of {hours:.1f} '
        f'hours in all. Trained with {machines}. Time per clip: median of '
        f'{env["repeats"]} forward passes of {" x ".join(map(str, costs["input"]))}, '
        f'in turns, {env["threads"]} threads of {env["cpu"]}. Kept as text are the '
        f'config of each model (`{where}MODEL/config.py`) and the record of each run '
        f'(`{where}MODEL/seedN.json`): what was logged in training, and the class '
        'predicted for each video.'
    )
