"""From trained models to a leaderboard's file: every model is tested by `mim test`."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from mmengine.config import Config

from aia_mmaction.datasets.example import find_dataset
from aia_mmaction.utils.commands import MIM, run_command
from aia_mmaction.utils.files import draft_of, write_text

from .dumps import DumpError, Predictions, combine, load_dump, name_videos

# Of the greedy choice of weights
ROUNDS = 20


class Model(NamedTuple):
    """A trained model."""

    config: Path
    checkpoint: Path

    def read(self, cfg_options: Dict[str, Any]) -> Config:
        """The config, with options as of ``--cfg-options``."""
        cfg = Config.fromfile(self.config)
        cfg.merge_from_dict(cfg_options)
        return cfg


class Testing(NamedTuple):
    """How models are tested."""

    folder: Path  # for dumps and logs, one folder in it for each model
    processes: int
    protocol: Optional[str]  # of the benchmarks (datasets/protocols.py)
    cfg_options: Dict[str, Any]  # as of ``--cfg-options``


def list_of(model: Model, split: str, cfg_options: Dict[str, Any]) -> Path:
    """The list that a model's config has for ``'val'``, or beside it for ``'test'``.

    Raises:
        DumpError: If there is no such file.
    """
    path = Path(find_dataset(model.read(cfg_options), 'val')['ann_file'])
    if split == 'test':
        if '_val_' not in path.name:
            raise DumpError(
                f'{model.config}: expected a list with _val_ in its name, beside which '
                f'that of the test is, got {path}. Give --test-list.'
            )
        path = path.with_name(path.name.replace('_val_', '_test_'))
    if not path.is_file():
        raise DumpError(
            f'{path}: expected the {split} list of {model.config}, got no such file. '
            f'Prepare the dataset (tools/data/prepare.py), or give --{split}-list.'
        )
    return path


def num_classes_of(model: Model, cfg_options: Dict[str, Any]) -> Optional[int]:
    """What a model's config says, if it has a ``cls_head`` that does."""
    head = (model.read(cfg_options).get('model') or {}).get('cls_head') or {}
    return head.get('num_classes')


def predict(
    models: Sequence[Model], split: str, list_file: Path, testing: Testing
) -> Dict[str, Predictions]:
    """Test models on a list, each once: what is there already is not done again.

    Args:
        models (Sequence[Model]): The models.
        split (str): What the list is called, ``'val'`` or ``'test'``.
        list_file (Path): The list.
        testing (Testing): How.

    Returns:
        dict[str, Predictions]: By the folder's name of each model.

    Raises:
        DumpError: If a folder has predictions of another model or other options.
        SystemExit: If ``mim test`` fails.
    """
    found = {}
    for number, model in enumerate(models, 1):
        name = f'{number}_{model.config.stem}'
        print(f'\n{split} list, model {number} of {len(models)}: {name}', flush=True)
        folder = testing.folder / name
        found[name] = _predict(model, split, list_file, testing, folder)
    return found


def _predict(
    model: Model, split: str, list_file: Path, testing: Testing, folder: Path
) -> Predictions:
    config, dump, state = (folder / f'{split}{end}' for end in ('.py', '.pkl', '.json'))
    cfg = _test_config(model, list_file, testing)
    stat = model.checkpoint.stat()
    expected = dict(
        config=cfg.pretty_text,
        list=list_file.read_text(encoding='utf-8'),
        checkpoint=str(model.checkpoint.resolve()),
        bytes=stat.st_size,
        changed=stat.st_mtime_ns,
    )
    if dump.exists() and state.exists():
        if json.loads(state.read_text(encoding='utf-8')) != expected:
            raise DumpError(
                f'{dump}: expected predictions of {model.checkpoint} as it is now, '
                'with the same config, options and list, got those of something else. '
                'Choose another --out-dir, or delete this file.'
            )
        print(f'{dump} is there already')
        return load_dump(dump)
    folder.mkdir(parents=True, exist_ok=True)
    state.unlink(missing_ok=True)  # it must not be that of an older dump
    launch: Tuple[Any, ...] = ()
    if testing.processes > 1:
        launch = ('--launcher', 'pytorch', '--gpus', testing.processes)
        if not torch.cuda.is_available():
            cfg.merge_from_dict({'env_cfg.dist_cfg.backend': 'gloo'})
    write_text(config, cfg.pretty_text)
    with draft_of(dump) as draft:
        run_command(
            *(*MIM, 'test', 'mmaction', config, '--checkpoint', model.checkpoint),
            *('--work-dir', folder / 'logs', '--dump', draft),
            *launch,
        )
    write_text(state, json.dumps(expected, indent=1) + '\n')
    return load_dump(dump)


def _test_config(model: Model, list_file: Path, testing: Testing) -> Config:
    """What predictions depend on, which the number of processes is not."""
    cfg = model.read(testing.cfg_options)
    find_dataset(cfg, 'test')['ann_file'] = str(list_file)
    if testing.protocol is not None:
        # Several clips and crops of a video take the memory of a batch.
        find_dataset(cfg, 'test')['protocol'] = testing.protocol
        cfg.test_dataloader.batch_size = 1
    name_videos(cfg)
    return cfg


def choose_weights(models: Sequence[Predictions]) -> List[float]:
    """Weights of an ensemble that are good on a validation set.

    Greedy selection with replacement (Caruana et al., *Ensemble Selection from
    Libraries of Models*, ICML 2004, section 2): each round takes the model that
    helps most, as the probability of the right class has it; its weight is how
    often it was taken.

    Args:
        models (Sequence[Predictions]): With labels.

    Returns:
        list[float]: One for each model, with a sum of 1.
    """
    taken: Counter = Counter()
    for _ in range(ROUNDS):
        losses = {}
        for candidate in range(len(models)):
            counts = taken + Counter([candidate])
            mean = combine(models, [counts[i] for i in range(len(models))])
            assert mean.labels is not None
            # [N, classes] -> [N]
            right = mean.scores.gather(1, mean.labels[:, None])[:, 0]
            losses[candidate] = -right.clamp(min=1e-12).log().mean().item()
        taken[min(losses, key=lambda candidate: losses[candidate])] += 1
    return [taken[i] / ROUNDS for i in range(len(models))]
