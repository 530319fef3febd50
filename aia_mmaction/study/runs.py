"""Training and testing, by ``mim train`` and ``mim test``.

A run that is over is kept as text, its record, and is not done again. A training
that was interrupted resumes from its last checkpoint.
"""

import copy
import json
import os
from collections import Counter
from pathlib import Path
from statistics import median
from typing import (
    Any,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import mmaction
import mmengine
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

import aia_mmaction
from aia_mmaction.benchmarking.report import cpu_name
from aia_mmaction.benchmarking.untrained import build_network
from aia_mmaction.datasets.example import find_dataset
from aia_mmaction.evaluation.dumps import load_dump, name_videos
from aia_mmaction.utils.commands import MIM, run_command
from aia_mmaction.utils.config import type_name
from aia_mmaction.utils.files import draft_of, write_text

from .models import Model


class Record(NamedTuple):
    """What is kept of a run."""

    model: str
    seed: int
    environment: Dict[str, Any]
    seconds: float  # of training
    curve: List[Dict[str, float]]  # what was logged in training
    validation: List[Dict[str, float]]  # and after epochs
    videos: List[str]  # of the test, sorted
    labels: List[int]
    predicted: List[int]
    predicted_backwards: Optional[List[int]]  # where classes are reversed ones


def run_all(
    models: Sequence[Model],
    seeds: Sequence[int],
    cfg_options: Dict[str, Any],
    work_dir: Path,
    records_dir: Path,
    load_from: Optional[str] = None,
) -> Dict[str, List[Record]]:
    """Do what is not done yet, model after model for each seed.

    Args:
        models (Sequence[Model]): What to train.
        seeds (Sequence[int]): Each model is trained once with each.
        cfg_options (dict): Of every model, as of ``--cfg-options``.
        work_dir (Path): For checkpoints and logs.
        records_dir (Path): For configs and records.
        load_from (str, optional): Checkpoint that every training starts from;
            ``{seed}`` in it stands for the seed. Defaults to None.

    Returns:
        dict[str, list[Record]]: Of every model, in the order of the seeds.

    Raises:
        SystemExit: If two runs have one name, a folder has results of other
            configs, a network cannot be built, a checkpoint is missing, or videos
            are to be played backwards that are not decoded.
    """
    runs = [(model, seed) for seed in seeds for model in models]
    _check_names(runs)
    done: Dict[Tuple[str, int], Record] = {}
    for model, seed in runs:
        path = _record_of(records_dir, model.name, seed)
        if path.exists():
            done[model.name, seed] = _read(path)
    left = [(model, seed) for model, seed in runs if (model.name, seed) not in done]
    starts = {
        (model.name, seed): _start(load_from, seed, work_dir / model.name)
        for model, seed in left
    }
    if load_from is not None:  # belongs to what the records are of
        cfg_options = {**cfg_options, 'load_from': load_from}
    configs = {model.name: model.read(cfg_options) for model in models}
    for model in models:
        _check(model, configs[model.name])
    _keep_configs(models, configs, work_dir, records_dir)
    for model, seed in left:
        print(f'\n{model.name}, seed {seed}: {_progress(runs, done)}', flush=True)
        record = _run(
            model.name,
            seed,
            (work_dir / model.name / 'config.py').absolute(),
            work_dir / model.name / f'seed{seed}',
            starts[model.name, seed],
        )
        path = _record_of(records_dir, model.name, seed)
        write_text(path, json.dumps(record._asdict()) + '\n')
        done[model.name, seed] = record
    return {model.name: [done[model.name, seed] for seed in seeds] for model in models}


def _check_names(runs: Sequence[Tuple[Model, int]]) -> None:
    """Reports and folders tell runs apart by model and seed."""
    for (name, seed), times in Counter((m.name, seed) for m, seed in runs).items():
        if times > 1:
            raise SystemExit(
                f'{name}, seed {seed}: expected one run of this name, got {times}. '
                'Give each config a file name of its own, and each module and seed '
                'once.'
            )


def _start(load_from: Optional[str], seed: int, work_dir: Path) -> Optional[str]:
    """The checkpoint that a run starts from, unless there is none or it has begun."""
    # MMEngine either resumes or loads.
    if load_from is None or (work_dir / f'seed{seed}' / 'last_checkpoint').exists():
        return None
    path = load_from.replace('{seed}', str(seed))
    if '://' not in path and not Path(path).is_file():
        raise SystemExit(
            f'--load-from: expected a checkpoint for seed {seed}, got no file {path}.'
        )
    return path


def _record_of(records_dir: Path, name: str, seed: int) -> Path:
    return records_dir / name / f'seed{seed}.json'


def _read(path: Path) -> Record:
    return Record(**json.loads(path.read_text(encoding='utf-8')))


def _check(model: Model, cfg: Config) -> None:
    """Find out now what would otherwise fail after hours of the others."""
    init_default_scope(cfg.get('default_scope', 'mmaction'))
    try:
        build_network(cfg)
    except (ImportError, KeyError, TypeError, ValueError) as error:
        raise SystemExit(
            f'{model.config}: expected a network that can be built as {model.name}, '
            f'got {type(error).__name__}: {str(error).rstrip(".")}. The backbone '
            'takes --modules if its type is one of this package, such as '
            "'aia_mmaction.AIAResNet'; modules of timm need timm."
        ) from error
    if cfg.get('reversed_pairs'):
        reverse(copy.deepcopy(cfg))


def _keep_configs(
    models: Sequence[Model],
    configs: Mapping[str, Config],
    work_dir: Path,
    records_dir: Path,
) -> None:
    """Write the whole configs, unless a folder has results of others."""
    new = []
    for model in models:
        cfg = configs[model.name]
        # Checkpoints of another config are not to be resumed, either.
        for folder, results in (
            (records_dir / model.name, 'seed*.json'),
            (work_dir / model.name, 'seed*/last_checkpoint'),
        ):
            if not _has_results(folder, results, model, cfg):
                new.append((folder / 'config.py', cfg))
    for path, cfg in new:  # once it is known that all of them will do
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, cfg.pretty_text)


def _has_results(folder: Path, results: str, model: Model, cfg: Config) -> bool:
    """Whether there are any of this model and config; those of another are refused."""
    if not any(folder.glob(results)):
        return False
    kept = folder / 'config.py'
    if not kept.exists() or Config.fromfile(kept).to_dict() != cfg.to_dict():
        raise SystemExit(
            f'{folder}: expected results of {model.config} as it is now, with '
            'the same --cfg-options, got those of another config. Choose another '
            'folder, or delete this one.'
        )
    return True


def _progress(runs: Sequence[Tuple[Model, int]], done: Dict[Any, Record]) -> str:
    """How many runs are over, and when all of them will be."""
    text = f'{len(done)} of {len(runs)} runs are done'
    if not done:
        return text
    every = [record.seconds for record in done.values()]
    seconds = 0.0
    for model, seed in runs:
        if (model.name, seed) not in done:
            own = [r.seconds for r in done.values() if r.model == model.name]
            seconds += median(own or every)
    hours, minutes = divmod(round(seconds / 60), 60)
    return f'{text}, about {hours} h {minutes} min of training are left'


def _run(
    name: str, seed: int, config: Path, work_dir: Path, load_from: Optional[str]
) -> Record:
    # Not --seed, which MMAction2 ignores where a config has `randomness`
    options = [f'randomness.seed={seed}']
    resume = ['--resume']
    if load_from is not None:
        options.append(f'load_from={load_from}')
        resume = []
    run_command(
        *(*MIM, 'train', 'mmaction', config, '--work-dir', work_dir, *resume),
        *('--cfg-options', *options),
    )
    cfg = Config.fromfile(config)
    videos, labels, predicted = _test(cfg, work_dir, 'forwards')
    backwards = None
    if cfg.get('reversed_pairs'):
        reverse(cfg)
        _, _, backwards = _test(cfg, work_dir, 'backwards')
    curve = list(_scalars(work_dir, 'loss', 'top1_acc', 'lr', 'epoch', 'time'))
    return Record(
        model=name,
        seed=seed,
        environment=_environment(),
        seconds=round(_seconds(curve)),
        curve=curve,
        validation=list(_scalars(work_dir, 'acc/top1')),
        videos=videos,
        labels=labels,
        predicted=predicted,
        predicted_backwards=backwards,
    )


def reverse(cfg: Config) -> None:
    """Have a config test videos played backwards, in place.

    Raises:
        SystemExit: If its test pipeline decodes nothing.
    """
    pipeline = find_dataset(cfg, 'test')['pipeline']
    kinds = [type_name(step) for step in pipeline]
    decoders = [i for i, kind in enumerate(kinds) if kind.endswith('Decode')]
    if not decoders:
        raise SystemExit(
            'reversed_pairs: expected a test pipeline that decodes frames, to play '
            f'them backwards, got {", ".join(kinds)}. Take the pairs out of the config.'
        )
    pipeline.insert(decoders[0], dict(type='ReverseFrames'))


def _test(
    cfg: Config, work_dir: Path, name: str
) -> Tuple[List[str], List[int], List[int]]:
    """Names, labels and predictions of the test videos, sorted by name."""
    config, dump = work_dir / f'{name}.py', work_dir / f'{name}.pkl'
    if not dump.exists():
        name_videos(cfg)
        cfg.dump(config)
        checkpoint = (work_dir / 'last_checkpoint').read_text(encoding='utf-8').strip()
        with draft_of(dump) as draft:
            run_command(
                *(*MIM, 'test', 'mmaction', config, '--checkpoint', checkpoint),
                *('--work-dir', work_dir / 'test', '--dump', draft),
            )
    found = load_dump(dump)
    if found.labels is None:
        raise SystemExit(
            f'{config}: expected a test list with labels, got one without. Give '
            'test_dataloader.dataset.ann_file a list of "NAME LABEL".'
        )
    predicted = found.scores.argmax(dim=1).tolist()
    rows = sorted(zip(found.names, found.labels.tolist(), predicted))
    videos, labels, predictions = zip(*rows)
    folder = os.path.commonpath([os.path.dirname(video) for video in videos])
    return (
        [os.path.relpath(video, folder) for video in videos],
        list(labels),
        list(predictions),
    )


def _scalars(work_dir: Path, *names: str) -> Iterator[Dict[str, float]]:
    """What MMEngine logged together with the first of these, over resumed runs too."""
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8').splitlines():
            try:
                found = json.loads(line)
            except json.JSONDecodeError:  # the last one of a run that was killed
                continue
            if names[0] in found:
                # Five digits, as in MMEngine's log
                yield {
                    name: float(f'{found[name]:.5g}')
                    for name in ('step', *names)
                    if name in found
                }


def _seconds(curve: Sequence[Dict[str, float]]) -> float:
    """Of all iterations, also of a training that was interrupted."""
    by_step = {int(line['step']): line['time'] for line in curve}
    steps = sorted(by_step)
    return sum((step - last) * by_step[step] for last, step in zip([0, *steps], steps))


def _environment() -> Dict[str, Any]:
    return dict(
        aia_mmaction=aia_mmaction.__version__,
        mmaction2=mmaction.__version__,
        mmengine=mmengine.__version__,
        torch=torch.__version__,
        cpu=cpu_name(),
        threads=torch.get_num_threads(),
        device='cuda' if torch.cuda.is_available() else 'cpu',
    )
