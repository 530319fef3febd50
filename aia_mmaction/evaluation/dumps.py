"""What ``mim test --dump`` wrote, read without running code from the file."""

import io
import pickle
from collections import OrderedDict
from inspect import signature
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import torch
from mmaction.datasets.transforms import PackActionInputs
from mmengine.config import Config
from torch import Tensor

from aia_mmaction.datasets.example import find_dataset
from aia_mmaction.datasets.list_file import ListFileError, read_list
from aia_mmaction.utils.config import type_name
from aia_mmaction.utils.files import draft_of

# How MMAction2's datasets of videos and of folders of frames call a name
NAME_KEYS = ('filename', 'frame_dir')


class DumpError(ValueError):
    """A dump cannot be read, or does not fit its list or other dumps."""


class Predictions(NamedTuple):
    """Of one dump, in its order."""

    names: List[str]  # paths of the videos or of the folders of frames
    scores: Tensor  # [N, classes], probabilities, float64
    labels: Optional[Tensor]  # [N]; None where the list had none


def name_videos(cfg: Config) -> None:
    """Have the dumps of a config name their videos, which MMAction2's do not.

    Args:
        cfg (Config): Is changed in place, unless its test pipeline keeps names.
    """
    for step in find_dataset(cfg, 'test')['pipeline']:
        if type_name(step) == 'PackActionInputs':
            default = signature(PackActionInputs).parameters['meta_keys'].default
            keys = step.get('meta_keys', default)
            if not set(keys) & set(NAME_KEYS):
                step['meta_keys'] = (*keys, *NAME_KEYS)


def check_weights(weights: Sequence[float], count: int) -> None:
    """Of a weighted mean.

    Raises:
        DumpError: If there is not one for each, one is negative or all are 0.
    """
    if len(weights) != count or min(weights) < 0 or sum(weights) == 0:
        raise DumpError(
            f'Expected {count} weights, one for each model, none below 0 and not all '
            f'0, got {list(weights)}.'
        )


def load_dump(path: Path) -> Predictions:
    """Read a dump.

    Raises:
        DumpError: If the file is no dump, holds anything but predictions, does
            not name its videos, or a video has several labels.
    """
    try:
        with open(path, 'rb') as file:
            samples = _Unpickler(file).load()
    except DumpError as error:
        raise DumpError(f'{path}: {error}') from error
    except OSError as error:
        raise DumpError(
            f'{path}: expected a dump of `mim test --dump`, got '
            f'{error.strerror}. Check the path.'
        ) from error
    except Exception as error:  # whatever bytes can make a pickle do
        raise DumpError(
            f'{path}: expected a dump of `mim test --dump`, got '
            f'{error!r}. Make it again.'
        ) from error
    if not isinstance(samples, list) or not samples:
        raise DumpError(
            f'{path}: expected a list of predictions, got '
            f'{type(samples).__name__}. Make it again.'
        )
    names, scores, labels = [], [], []
    for sample in samples:
        score = _field(sample, 'pred_score')
        if not isinstance(score, Tensor) or score.dim() != 1:
            raise DumpError(
                f"{path}: expected samples with 'pred_score' [classes], got "
                f'{sample!r:.200}. Dump the results of a recognizer.'
            )
        name = sample.get('filename', sample.get('frame_dir'))
        if not isinstance(name, str):
            raise DumpError(
                f'{path}: expected the name of each video, got none. In the '
                "test pipeline, set dict(type='PackActionInputs', meta_keys="
                "('filename', 'frame_dir')), and dump again."
            )
        names.append(name.replace('\\', '/'))  # of a test on Windows
        scores.append(score.double())
        labels.append(_label(path, sample))
    sizes = sorted({len(score) for score in scores})
    if len(sizes) != 1:
        raise DumpError(
            f'{path}: expected as many classes for each video, got {sizes}. Make it '
            'again, with one config.'
        )
    return Predictions(
        names,
        _probabilities(path, torch.stack(scores)),
        None if min(labels) < 0 else torch.tensor(labels),
    )


def save_dump(path: Path, predictions: Predictions) -> None:
    """Write predictions as ``mim test --dump`` does."""
    labels = predictions.labels
    samples = [
        dict(
            filename=name,
            # clones, since pickle would take the whole tensor for each row
            pred_score=predictions.scores[i].float().clone(),
            gt_label=torch.tensor([-1])
            if labels is None
            else labels[i : i + 1].clone(),
        )
        for i, name in enumerate(predictions.names)
    ]
    with draft_of(path) as draft:
        draft.write_bytes(pickle.dumps(samples))


def in_order_of(list_file: Path, predictions: Predictions) -> Predictions:
    """The predictions in the order of a list file.

    Raises:
        DumpError: If the dump's videos are not those of the list, one to one.
    """
    listed = listed_names(list_file)
    found = _by_listed_name(predictions.names, listed)
    missing = [name for name in listed if name not in found]
    extra = len(predictions.names) - len(listed) + len(missing)
    if missing or extra or len(set(listed)) != len(listed):
        raise DumpError(
            f'Expected one prediction for each of the {len(listed)} videos of '
            f'{list_file}, got {len(predictions.names)}: {len(missing)} are '
            f'missing{_some(missing)}, {extra} are too many or not listed. '
            'Test with this list.'
        )
    order = [found[name] for name in listed]
    labels = predictions.labels
    return Predictions(
        listed, predictions.scores[order], None if labels is None else labels[order]
    )


def combine(
    dumps: Sequence[Predictions], weights: Optional[Sequence[float]] = None
) -> Predictions:
    """The weighted mean of the probabilities, in the order of the first.

    Raises:
        DumpError: If the dumps are of different videos, classes or labels, or
            there is not one weight for each.
    """
    weights = [1.0] * len(dumps) if weights is None else list(weights)
    check_weights(weights, len(dumps))
    first = dumps[0]
    scores = torch.zeros_like(first.scores)
    for i, (dump, weight) in enumerate(zip(dumps, weights), 1):
        found = {name: row for row, name in enumerate(dump.names)}
        if (
            found.keys() != set(first.names)
            or len(found) != len(dump.names)
            or dump.scores.shape != first.scores.shape
        ):
            raise DumpError(
                f'Expected the videos and classes of the first dump '
                f'({first.scores.shape[0]} x {first.scores.shape[1]}) in all, '
                f'got others in dump {i} ({dump.scores.shape[0]} x '
                f'{dump.scores.shape[1]}). Test all models with one list.'
            )
        order = [found[name] for name in first.names]
        both = [d.labels for d in (dump, first) if d.labels is not None]
        if len(both) == 1 or both and not torch.equal(both[0][order], both[1]):
            raise DumpError(
                f'Expected the labels of the first dump in each, '
                f'got others in dump {i}. Test all models with '
                'one list.'
            )
        scores += dump.scores[order] * (weight / sum(weights))
    return first._replace(scores=scores)


def listed_names(path: Path) -> List[str]:
    """The names of the videos or folders of frames in a list file."""
    try:
        # Any number of numbers: frames, labels or none
        entries = read_list(str(path), multi_class=True)
    except ListFileError as error:
        raise DumpError(str(error)) from error
    return [entry.name.replace('\\', '/') for entry in entries]


def _by_listed_name(paths: Sequence[str], listed: Sequence[str]) -> Dict[str, int]:
    """Which path has a listed name at its end: data/videos/a/b.mp4, a/b.mp4."""
    found = {}
    depths = {len(PurePosixPath(name).parts) for name in listed}
    wanted = set(listed)
    for row, path in enumerate(paths):
        parts = PurePosixPath(path).parts
        for depth in depths:
            name = '/'.join(parts[-depth:])
            if name in wanted:
                found[name] = row
    return found


def _some(names: Sequence[str]) -> str:
    if not names:
        return ''
    shown = [*names[:5], '...'] if len(names) > 5 else names
    return f' ({", ".join(shown)})'


def _probabilities(path: Path, scores: Tensor) -> Tensor:
    if not scores.isfinite().all():
        raise DumpError(
            f'{path}: expected finite scores, got NaN or inf. '
            'Look at the losses of the training.'
        )
    sums = scores.sum(1)
    if (scores >= 0).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        return scores
    return scores.softmax(1)  # of heads with average_clips='score'


def _label(path: Path, sample: dict) -> int:
    label = _field(sample, 'gt_label')
    if label is None:
        return -1
    if isinstance(label, Tensor) and label.numel() != 1:
        raise DumpError(
            f'{path}: expected one label for each video, got {label.numel()} numbers '
            'for one, as multi-label datasets have. Have their metric computed by '
            '`mim test`, AccMetric with mean_average_precision.'
        )
    return int(label)


def _field(sample: Any, name: str) -> Any:
    if not isinstance(sample, dict):
        return None
    of_1_1 = sample.get(f'{name}s')  # as MMAction2 1.1 calls it
    return of_1_1.get('item') if isinstance(of_1_1, dict) else sample.get(name)


class _Unpickler(pickle._Unpickler):
    """Knows tensors, and none of the rest that a pickle can name.

    The one in Python: that in C makes room for as many objects as the file
    pretends to have.
    """

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ('collections', 'OrderedDict'): OrderedDict,
            ('torch._utils', '_rebuild_tensor_v2'): torch._utils._rebuild_tensor_v2,
            ('torch.storage', '_load_from_bytes'): _load_storage,
            ('_codecs', 'encode'): latin1,
        }
        if (module, name) not in allowed:
            raise DumpError(
                f'expected tensors, names and numbers, got '
                f'{module}.{name}. Do not trust this file.'
            )
        return allowed[module, name]


def latin1(text: str, encoding: str) -> bytes:
    """What older pickle protocols write bytes as, ``_codecs.encode``."""
    return text.encode('latin1')


def _load_storage(data: bytes) -> Any:
    # PyTorch's own function of this name loads anything.
    return torch.load(io.BytesIO(data), weights_only=True)
