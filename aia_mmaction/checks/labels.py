"""Do the labels of the datasets fit the number of classes?"""

import logging
from typing import Any, Iterator, List, Optional

import numpy as np
from mmaction.datasets import (
    AVADataset,
    AVAKineticsDataset,
    RawframeDataset,
    VideoDataset,
)
from mmaction.datasets.base import BaseActionDataset
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from torch import nn

from aia_mmaction.datasets.list_file import read_list

UNKNOWN = -1  # what MMAction2 reads where a list has no label


def check_labels(dataset: Any, model: nn.Module, loader: str) -> None:
    """Compare labels with the ``num_classes`` of a head.

    Args:
        dataset (Any): A dataset, or a wrapper around some. What is no dataset
            of MMAction2 is not looked at.
        model (nn.Module): A recognizer or detector.
        loader (str): The name of its data loader in the config. A list without
            any labels is allowed for ``'test_dataloader'``.

    Raises:
        ValueError: With the file, line and label of the first one that the
            head does not know.
    """
    path, num_classes = _num_classes(model)
    if num_classes is None:
        return
    for each in _datasets(dataset):
        of_people = isinstance(each, (AVADataset, AVAKineticsDataset))
        if of_people or each.multi_class:
            _check_width(each, num_classes, path, loader)
        if not of_people:
            _check_each(each, num_classes, path, loader)


def _num_classes(model: nn.Module) -> tuple:
    for path in ('cls_head', 'roi_head.bbox_head'):
        head: Any = model
        for part in path.split('.'):
            head = getattr(head, part, None)
        if getattr(head, 'num_classes', None) is not None:
            return f'model.{path}.num_classes', head.num_classes
    return '', None


def _datasets(dataset: Any) -> Iterator[BaseActionDataset]:
    if isinstance(dataset, BaseActionDataset):
        yield dataset
    inner = list(getattr(dataset, 'datasets', []))
    if hasattr(dataset, 'dataset'):
        inner.append(dataset.dataset)
    for each in inner:
        yield from _datasets(each)


def _check_width(
    dataset: BaseActionDataset, num_classes: int, path: str, loader: str
) -> None:
    """Labels of several classes come as vectors."""
    if dataset.num_classes != num_classes:
        raise ValueError(
            f'{loader}: expected num_classes={num_classes} of the dataset, as in '
            f'{path}, got {dataset.num_classes}. Give both the same number.'
        )


def _check_each(
    dataset: BaseActionDataset, num_classes: int, path: str, loader: str
) -> None:
    samples = [_labels(dataset, i) for i in range(len(dataset))]
    unlabelled = bool(samples) and all(labels == [UNKNOWN] for labels in samples)
    if loader == 'test_dataloader' and unlabelled:
        print_log(
            f'{loader}: {dataset.ann_file} has no labels, so metrics say nothing. '
            'Predictions can be written by --dump.',
            logger='current',
            level=logging.WARNING,
        )
        return
    wrong = [
        (i, label)
        for i, labels in enumerate(samples)
        for label in labels
        if not 0 <= label < num_classes
    ]
    if wrong:
        index, label = wrong[0]
        got = 'none' if label == UNKNOWN else label
        more = f', and {len(wrong) - 1} more' if len(wrong) > 1 else ''
        raise ValueError(
            f'{loader}: expected labels from 0 to {num_classes - 1}, as {path} '
            f'= {num_classes} says, got {got} {_place(dataset, index)}{more}. Set '
            'num_classes to the number of classes, or write the list again.'
        )


def _labels(dataset: BaseActionDataset, index: int) -> List[int]:
    # Not the dataset's own method, which makes vectors and reads files.
    label = BaseDataset.get_data_info(dataset, index).get('label')
    return [] if label is None else np.ravel(label).astype(int).tolist()


def _place(dataset: BaseActionDataset, index: int) -> str:
    """Where a sample is listed."""
    sample = BaseDataset.get_data_info(dataset, index)
    name = sample.get('filename', sample.get('frame_dir'))
    line: Optional[int] = None
    if isinstance(dataset, (VideoDataset, RawframeDataset)):
        frames = 0
        if isinstance(dataset, RawframeDataset):
            frames = 2 if dataset.with_offset else 1
        for entry in read_list(
            dataset.ann_file,
            frames,
            getattr(dataset, 'delimiter', ' '),
            dataset.multi_class,
        ):
            labels = entry.numbers[frames:] or [UNKNOWN]
            if name.endswith(entry.name) and labels == _labels(dataset, index):
                line = entry.line
                break
    listed = dataset.ann_file if line is None else f'{dataset.ann_file}, line {line}'
    return f'for {name} ({listed})'
