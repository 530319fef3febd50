"""Networks trained on the motion pairs, by `mim train` and `mim test`.

What an earlier run finished is not done again; an interrupted training
resumes.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence, Tuple

import mmaction
import numpy as np
import torch
from torch import Tensor

import aia_mmaction
from aia_mmaction.evaluation.dumps import load_dump
from aia_mmaction.utils.files import as_command, write_text


def parser(description: str, work_dir: str) -> argparse.ArgumentParser:
    """The arguments of every tool that trains on the motion pairs."""
    shared = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared.add_argument('--seeds', type=int, nargs='+', default=[0])
    shared.add_argument('--work-dir', type=Path, default=Path(work_dir))
    shared.add_argument(
        '--dataset-args',
        nargs=argparse.REMAINDER,
        default=[],
        help='everything after it goes to make_motion_pairs.py',
    )
    shared.add_argument(
        '--cfg-options', nargs='+', default=[], help='passed to mim train and mim test'
    )
    return shared


def run(*command: Any) -> None:
    """Run a command that shows its own progress."""
    print(f'\n$ {as_command(*command)}', flush=True)
    if subprocess.call([str(part) for part in command]):
        raise SystemExit(f'The command failed: {as_command(*command)}')


def prepare(args: argparse.Namespace, script: Path) -> List[str]:
    """Render the dataset.

    Args:
        args (Namespace): Of :func:`parser`.
        script (Path): make_motion_pairs.py.

    Returns:
        list[str]: The names of its classes.
    """
    _check_settings(
        args.work_dir,
        dict(cfg_options=args.cfg_options, dataset_args=args.dataset_args),
    )
    run(
        sys.executable,
        script,
        'data/motion_pairs',
        *args.dataset_args,
    )
    return (
        Path('data/motion_pairs/label_map.txt').read_text(encoding='utf-8').splitlines()
    )


def _check_settings(work_dir: Path, settings: Dict[str, Any]) -> None:
    """Results of other settings must not be taken for results of these."""
    path = work_dir / 'settings.json'
    if path.exists():
        found = json.loads(path.read_text(encoding='utf-8'))
        if found != settings:
            raise SystemExit(
                f'{work_dir}: expected results of {settings}, got results of '
                f'{found}. Choose another --work-dir, or delete this one.'
            )
    work_dir.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(settings))


def train_and_test(
    config: Path, work_dir: Path, seed: int, cfg_options: Sequence[str]
) -> Tuple[Tensor, Tensor]:
    """Train and test one network.

    Returns:
        tuple[Tensor, Tensor]: Scores ``[num_videos, 8]`` and labels
        ``[num_videos]`` of the test videos.
    """
    dump = work_dir / 'predictions.pkl'
    if dump.exists():
        print(f'\n{dump} is there.')
    else:
        mim = (sys.executable, '-m', 'mim')
        options = ('--cfg-options', *cfg_options) if cfg_options else ()
        run(
            *mim,
            'train',
            'mmaction',
            config,
            '--work-dir',
            work_dir,
            '--seed',
            seed,
            '--resume',
            *options,
        )
        checkpoint = (work_dir / 'last_checkpoint').read_text(encoding='utf-8').strip()
        draft = work_dir / 'draft.pkl'
        run(
            *mim,
            'test',
            'mmaction',
            config,
            '--checkpoint',
            checkpoint,
            '--work-dir',
            work_dir / 'test',
            '--dump',
            draft,
            *options,
        )
        os.replace(draft, dump)
    predictions = load_dump(dump)
    assert predictions.labels is not None  # the lists have them
    return predictions.scores, predictions.labels


def accuracies(scores: Tensor, labels: Tensor) -> Dict[str, float]:
    """Top-1, and pair accuracy: the motion is right, direction ignored."""
    predicted = scores.argmax(dim=1)
    return {
        'top-1': (predicted == labels).float().mean().item(),
        'pair accuracy': (predicted // 2 == labels // 2).float().mean().item(),
    }


def percent(runs: Sequence[Dict[str, float]], key: str) -> str:
    """An accuracy as a cell of a table: the mean and each seed's."""
    values = [100 * run[key] for run in runs]
    each = ', '.join(f'{value:.1f}' for value in values)
    return each if len(values) == 1 else f'{np.mean(values):.1f} ({each})'


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    rule = ['---' for _ in header]
    lines = [header, rule, *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def write_report(
    path: Path, paragraphs: Sequence[str], args: argparse.Namespace, started: float
) -> None:
    """Write a report and say how it was made."""
    paragraphs = [
        *paragraphs,
        f'Seeds {", ".join(map(str, args.seeds))}. aia_mmaction '
        f'{aia_mmaction.__version__}, mmaction2 {mmaction.__version__}, '
        f'torch {torch.__version__}, {torch.get_num_threads()} threads, '
        f'{platform.machine()}. This run took {time.time() - started:.0f} s; '
        'it takes less where networks were trained before.',
    ]
    write_text(path, '\n\n'.join(paragraphs) + '\n')
    print(f'\nSee {path}')
