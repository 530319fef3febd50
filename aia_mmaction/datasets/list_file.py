"""The list files of videos and of folders of frames."""

import re
from typing import List, NamedTuple

from mmengine.fileio import list_from_file


class ListFileError(ValueError):
    """A list file, or a line of one, is not what it should be."""


class Entry(NamedTuple):
    """One line of a list file."""

    line: int  # counted from 1
    name: str
    numbers: List[int]  # frames where they are listed, then labels


def read_list(
    path: str, frames: int = 0, delimiter: str = ' ', multi_class: bool = False
) -> List[Entry]:
    """Read a list file as ``VideoDataset`` and ``RawframeDataset`` mean it.

    A line is a name and numbers. Names may have spaces, numbers may stand
    behind spaces or tabs; a byte order mark, the line ends of Windows and blank
    lines do not matter.

    Args:
        path (str): What a storage backend of MMEngine reads.
        frames (int): How many numbers about frames come before the labels: 1
            for ``total_frames``, 2 for ``offset`` and ``total_frames``.
            Defaults to 0.
        delimiter (str): What stands between name and numbers. Defaults to
            a space, which means any spaces and tabs.
        multi_class (bool): Whether a line may have several labels. Defaults to
            False.

    Raises:
        ListFileError: If the file is no text, has no lines, or a line does not
            have the numbers.
    """
    space = r'\s+' if delimiter == ' ' else rf'\s*{re.escape(delimiter)}\s*'
    most = '' if multi_class else frames + 1
    form = re.compile(rf'(.+?)((?:{space}-?\d+){{{frames},{most}}})')
    columns = ['a name', *('offset', 'total_frames')[2 - frames :]]
    columns.append('labels' if multi_class else 'label')
    expected = ' '.join(columns)
    try:
        lines = list_from_file(path, encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise ListFileError(f'{path}: expected text in UTF-8, got {error}.') from error
    entries = []
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line:
            continue
        match = form.fullmatch(line)
        if match is None or _is_unclear(match[1], match[2], delimiter):
            raise ListFileError(
                f'{path}, line {number}: expected {expected}, the label a number, '
                f'got {line!r}.'
            )
        entries.append(
            Entry(number, match[1], [*map(int, _fields(match[2], delimiter))])
        )
    if not entries:
        raise ListFileError(
            f'{path}: expected a line for each video ({expected}), got none. Check '
            'ann_file, or write the list again.'
        )
    return entries


def _is_unclear(name: str, numbers: str, delimiter: str) -> bool:
    """Whether the name may be a name and a label that is no number."""
    *front, last = _fields(name, delimiter)
    return not numbers and bool(front) and not re.search(r'\.[a-zA-Z]\w*$', last)


def _fields(text: str, delimiter: str) -> List[str]:
    return text.replace(delimiter, ' ').split()
