"""The benchmarks' annotations, as their owners ship them."""

import csv
import json
import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from aia_mmaction.datasets.flip_by_label_name import SHIPPED


class AnnotationError(ValueError):
    """An annotation file is missing or is not what it should be."""


class Split(NamedTuple):
    """Videos of one list file.

    ``videos`` maps names relative to the folder of all videos to class
    numbers, None where the owners keep them to themselves.
    """

    list_file: str
    videos: Dict[str, Optional[int]]
    published: Optional[int]  # number of videos, where it is known


class Annotations(NamedTuple):
    """All that the owners say of a benchmark's videos."""

    labels: List[str]  # in the order of the class numbers
    splits: List[Split]
    published: Optional[int] = None  # different videos of all splits together
    # What videos have to be made of, by their names
    recordings: Dict[str, Path] = {}


def sthv1(source: Path, label_order: str) -> Annotations:
    """Something-Something V1: CSV files with ``;``, and a label per line."""
    counts = dict(train=86017, validation=11522, test=10960)
    return _of_csv(source, label_order, 'something-v1', 'sthv1', counts)


def jester(source: Path, label_order: str) -> Annotations:
    """Jester, whose files have the form of Something-Something V1's."""
    counts = dict(train=118562, validation=14787, test=14743)
    return _of_csv(source, label_order, 'jester-v1', 'jester', counts)


def _of_csv(
    source: Path, label_order: str, prefix: str, benchmark: str, counts: Dict[str, int]
) -> Annotations:
    labels = _lines(_find(source, f'*{prefix}-labels.csv'))
    numbers = _numbers(labels, label_order)
    splits = []
    for split, count in counts.items():
        path = _find(source, f'*{prefix}-{split}.csv')
        videos: Dict[str, Optional[int]] = {}
        for i, row in enumerate(_csv(path), 1):
            expected = 1 if split == 'test' else 2
            if len(row) != expected or not row[0].isdigit():
                raise AnnotationError(
                    f'{path}, line {i}: expected '
                    f'{"ID" if split == "test" else "ID;label"}, got '
                    f'{";".join(row)!r}.'
                )
            _add(videos, row[0], None if split == 'test' else row[1], numbers, path)
        name = dict(validation='val').get(split, split)
        list_file = f'{benchmark}_{name}_list_rawframes.txt'
        splits.append(Split(list_file, videos, count))
    return Annotations(sorted(numbers, key=lambda label: numbers[label]), splits)


def sthv2(
    source: Path, label_order: str, with_test_labels: bool = False
) -> Annotations:
    """Something-Something V2: JSON files whose templates have brackets.

    Newer packages bring ``test-answers.csv``, ``id;label``, from which the test
    list gets its labels with ``with_test_labels``.
    """
    path = _find(source, '*labels.json')
    found = _json(path, dict)
    by_number = {str(number): name for name, number in found.items()}
    if by_number.keys() != {str(i) for i in range(len(found))}:
        raise AnnotationError(
            f'{path}: expected names with the numbers 0 to {len(found) - 1}, '
            f'got {sorted(by_number)}. Download it again.'
        )
    labels = [by_number[str(i)] for i in range(len(found))]
    numbers = _numbers(labels, label_order)
    counts = dict(train=168913, validation=24777, test=27157)
    splits = []
    for split, count in counts.items():
        path = _find(source, f'*{split}.json')
        answers = _answers(source) if split == 'test' and with_test_labels else {}
        videos: Dict[str, Optional[int]] = {}
        for entry in _json(path, list):
            video = _text_field(entry, 'id', path)
            label = answers.get(video)
            if answers and label is None:
                raise AnnotationError(
                    f'{path}: expected a label for each video in the test answers, '
                    f'got none for {video}. Download both again.'
                )
            if split != 'test':
                label = re.sub(r'[\[\]]', '', _text_field(entry, 'template', path))
            _add(videos, f'{video}.webm', label, numbers, path)
        name = dict(validation='val').get(split, split)
        splits.append(Split(f'sthv2_{name}_list_videos.txt', videos, count))
    return Annotations(sorted(numbers, key=lambda label: numbers[label]), splits)


def _answers(source: Path) -> Dict[str, str]:
    """The labels of the test videos, by their names."""
    path = _find(source, '*test-answers.csv')
    answers = {}
    for i, row in enumerate(_csv(path), 1):
        if len(row) != 2:
            raise AnnotationError(
                f'{path}, line {i}: expected ID;label, got {";".join(row)!r}.'
            )
        answers[row[0]] = row[1]
    return answers


def diving48(source: Path) -> Annotations:
    """Diving48 with its V2 labels; the vocabulary has four parts a class."""
    path = _find(source, 'Diving48_vocab.json')
    vocabulary = _json(path, list)
    for parts in vocabulary:
        if not (
            isinstance(parts, list) and all(isinstance(part, str) for part in parts)
        ):
            raise AnnotationError(
                f'{path}: expected the parts of each class, '
                f'got {parts!r}. Download it again.'
            )
    labels = [' '.join(parts) for parts in vocabulary]
    splits = []
    for split, name, count in (('train', 'train', 15027), ('test', 'val', 1970)):
        path = _find(source, f'Diving48_V2_{split}.json')
        videos: Dict[str, Optional[int]] = {}
        for entry in _json(path, list):
            number = _field(entry, 'label', path)
            _check_number(number, labels, path)
            videos[f'{_text_field(entry, "vid_name", path)}.mp4'] = number
        splits.append(Split(f'diving48_{name}_list_videos.txt', videos, count))
    return Annotations(labels, splits)


def egtea(source: Path) -> Annotations:
    """EGTEA Gaze+ actions; the published numbers count from 1."""
    path = _find(source, 'action_idx.txt')
    names = {}
    for line in _lines(path):
        name, _, number = line.rpartition(' ')
        if not name or not number.isdigit():
            raise AnnotationError(f'{path}: expected "Name number", got {line!r}.')
        names[int(number) - 1] = name
    labels = [names[i] for i in sorted(names)]
    if sorted(names) != list(range(len(names))):
        raise AnnotationError(
            f'{path}: expected the numbers 1 to {len(names)}, got {sorted(names)}.'
        )
    splits = []
    for fold in (1, 2, 3):
        for split in ('train', 'test'):
            path = _find(source, f'{split}_split{fold}.txt')
            videos: Dict[str, Optional[int]] = {}
            for line in _lines(path):
                parts = line.split()
                if len(parts) < 2 or not parts[1].isdigit():
                    raise AnnotationError(
                        f'{path}: expected "clip action verb noun", got {line!r}.'
                    )
                label = int(parts[1]) - 1
                _check_number(label, labels, path)
                # OP01-R01-PastaSalad-66680-... lies in OP01-R01-PastaSalad.
                folder = '-'.join(parts[0].split('-')[:3])
                videos[f'{folder}/{parts[0]}.mp4'] = label
            splits.append(Split(f'egtea_{split}_split_{fold}_videos.txt', videos, None))
    return Annotations(labels, splits, published=10321)


def utd_mhad(source: Path, modality: str) -> Annotations:
    """UTD-MHAD by people: 1, 3, 5 and 7 are for training, the others for testing.

    Two more lists divide those for training, to choose settings without the people
    of the test.

    Its files are named after action, person and trial, ``a9_s1_t1_depth.mat`` or
    ``a9_s1_t1_color.avi``.
    """
    labels = _lines(SHIPPED / 'utd-mhad.txt')
    ending = dict(depth='_depth.mat', rgb='_color.avi')[modality]
    found = {}
    for path in sorted(source.rglob(f'*{ending}')):
        numbers = re.fullmatch(rf'a(\d+)_s(\d+)_t(\d+){re.escape(ending)}', path.name)
        if numbers is None:
            raise AnnotationError(
                f'{path}: expected a name such as a9_s1_t1{ending}. Download it again.'
            )
        found[tuple(map(int, numbers.groups()))] = path
    if not found:
        raise AnnotationError(
            f'Expected recordings such as a9_s1_t1{ending} in {source} or below, got '
            'none. --modality says which are meant.'
        )
    of_person: Dict[int, Dict[str, Optional[int]]] = {n: {} for n in range(1, 9)}
    recordings = {}
    for (action, person, trial), path in sorted(found.items()):
        _check_number(action - 1, labels, path)
        name = path.name
        if modality == 'depth':
            name = f'a{action:02}_s{person}_t{trial}.mp4'
            recordings[name] = path
        if person not in of_person:
            raise AnnotationError(
                f'{path}: expected people 1 to {len(of_person)}, got {person}.'
            )
        of_person[person][name] = action - 1
    splits = [
        Split(
            f'utd-mhad_{split}_list_videos.txt',
            dict(sorted(item for n in people for item in of_person[n].items())),
            published,
        )
        for split, people, published in (
            ('train', (1, 3, 5, 7), 431),
            ('test', (2, 4, 6, 8), 430),
            ('tuning_train', (1, 3, 5), None),
            ('tuning_val', (7,), None),
        )
    ]
    return Annotations(labels, splits, 861, recordings)


def jhmdb(source: Path) -> Annotations:
    """J-HMDB; a list for each class and split says 1 for training, 2 for testing."""
    # Of the first split the counts are in the paper.
    counts = {1: (660, 268)}
    pattern = '*_test_split1.txt'
    found = {*source.glob(pattern), *source.glob(f'*/{pattern}')}
    labels = sorted({path.name[: -len(pattern) + 1] for path in found})
    if not labels:
        raise AnnotationError(
            f'Expected CLASS{pattern[1:]} in {source} or a folder in it, got none. Put '
            'what you downloaded in one folder.'
        )
    splits = []
    for fold in (1, 2, 3):
        parts: Dict[str, Dict[str, Optional[int]]] = {'1': {}, '2': {}}
        for number, label in enumerate(labels):
            path = _find(source, f'{label}_test_split{fold}.txt')
            for line in _lines(path):
                name, _, part = line.partition(' ')
                if part not in parts:
                    raise AnnotationError(
                        f'{path}: expected "NAME.avi 1" or "NAME.avi 2", got {line!r}.'
                    )
                parts[part][f'{label}/{name}'] = number
        for (split, part), count in zip(
            (('train', '1'), ('test', '2')), counts.get(fold, (None, None))
        ):
            list_file = f'jhmdb_{split}_split_{fold}_videos.txt'
            splits.append(Split(list_file, parts[part], count))
    return Annotations(labels, splits, 928)


def _find(source: Path, pattern: str) -> Path:
    # Not rglob: there may be millions of frames below.
    found = sorted([*source.glob(pattern), *source.glob(f'*/{pattern}')])
    if not found:
        raise AnnotationError(
            f'Expected {pattern} in {source} or a folder in it, got none. Put '
            'what you downloaded in one folder.'
        )
    if len({path.read_bytes() for path in found}) > 1:
        raise AnnotationError(
            f'Expected one {pattern} in {source}, got different ones: '
            f'{", ".join(map(str, found))}. Leave the one that is meant.'
        )
    return found[0]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8-sig')  # with or without its mark
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f'{path}: expected text, got {error}. Download it again.'
        ) from error


def _lines(path: Path) -> List[str]:
    lines = _text(path).splitlines()
    return [line.strip() for line in lines if line.strip()]


def _csv(path: Path) -> List[List[str]]:
    try:
        return list(csv.reader(_text(path).splitlines(), delimiter=';'))
    except csv.Error as error:
        raise AnnotationError(
            f'{path}: expected values separated by ";", got {error}. Download it again.'
        ) from error


def _json(path: Path, kind: type):
    text = _text(path)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(
            f'{path}: expected JSON, got {error}. Download it again.'
        ) from error
    if not isinstance(found, kind):
        raise AnnotationError(
            f'{path}: expected a {kind.__name__}, got a {type(found).__name__}.'
        )
    return found


def _field(entry: dict, key: str, path: Path):
    if not isinstance(entry, dict) or key not in entry:
        raise AnnotationError(f'{path}: expected entries with {key!r}, got {entry!r}.')
    return entry[key]


def _text_field(entry: dict, key: str, path: Path) -> str:
    value = _field(entry, key, path)
    if not isinstance(value, str):
        raise AnnotationError(f'{path}: expected text in {key!r}, got {value!r}.')
    return value


def _numbers(labels: List[str], label_order: str) -> Dict[str, int]:
    if label_order == 'sorted':
        labels = sorted(labels)
    return {name: number for number, name in enumerate(labels)}


def _add(
    videos: Dict[str, Optional[int]],
    name: str,
    label: Optional[str],
    numbers: Dict[str, int],
    path: Path,
) -> None:
    if label is not None and label not in numbers:
        raise AnnotationError(
            f'{path}: expected a label of the label file, got {label!r} for {name}.'
        )
    videos[name] = None if label is None else numbers[label]


def _check_number(number: int, labels: List[str], path: Path) -> None:
    if not isinstance(number, int) or not 0 <= number < len(labels):
        raise AnnotationError(
            f'{path}: expected classes 0 to {len(labels) - 1}, got {number!r}.'
        )
