"""The files that a conversion reads and writes."""

import os
import pickle
import re
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
from mmengine.fileio import list_from_file
from mmengine.runner import load_checkpoint
from torch import nn

from aia_mmaction.datasets.flip_by_label_name import SHIPPED


class FileError(ValueError):
    """A file is not what it should be, or cannot be written."""


def check_paths(src: Path, dst: Path) -> None:
    """Whether there is something to read, and room for something new."""
    if src.is_dir() or not src.exists():
        what = 'a folder' if src.is_dir() else 'no such file'
        raise FileError(
            f'{src}: expected a checkpoint file, got {what}. Check the path.'
        )
    if dst.exists() and dst.samefile(src):
        raise FileError(
            f'{dst}: expected another file to write to than SRC, got the '
            'same. Choose another DST.'
        )
    if dst.exists():
        raise FileError(
            f'{dst}: expected a file that does not exist yet, got '
            f'{"a folder" if dst.is_dir() else "one that does"}. Choose '
            'another DST.'
        )
    if not dst.parent.is_dir():
        raise FileError(
            f'{dst}: expected an existing folder to write to, got '
            f'{dst.parent}. Create it first.'
        )


def read_checkpoint(path: Path) -> Dict[str, Any]:
    """The file's dict, a bare state dict as ``dict(state_dict=...)``."""
    try:
        file = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a broken file can raise nearly anything
        refused = re.search(r'GLOBAL (\S+)', str(error))
        if isinstance(error, pickle.UnpicklingError) and refused:
            raise FileError(
                f'{path}: expected tensors and plain values, got a pickle of '
                f'{refused[1]}, which could run code. If you trust the file, '
                'load it where it was made and save only its state_dict.'
            ) from error
        first_line = (str(error).strip().splitlines() or [''])[0]
        raise FileError(
            f'{path}: expected a checkpoint of torch.save, got a file that '
            f'torch.load cannot read ({type(error).__name__}: {first_line[:80]}'
            '). It may be truncated: compare its size, and get it again.'
        ) from error
    if isinstance(file, dict) and 'state_dict' not in file:
        file = dict(state_dict=file)
    state_dict = file['state_dict'] if isinstance(file, dict) else None
    if not (
        isinstance(state_dict, dict)
        and state_dict
        and all(
            isinstance(key, str) and isinstance(value, torch.Tensor)
            for key, value in state_dict.items()
        )
    ):
        keys = ''
        if isinstance(state_dict, dict):
            keys = f' with {", ".join(list(map(str, state_dict))[:4])}'
        raise FileError(
            f'{path}: expected a state_dict of named tensors, bare or under '
            f'the key state_dict, got a {type(file).__name__}{keys}. Is it a '
            'checkpoint?'
        )
    return file


def read_labels(path: Path) -> List[str]:
    """Class names in the order of the file."""
    try:
        # A byte order mark would become part of the first name.
        text = path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise FileError(
            f'{path}: expected class names in UTF-8, got {error}. Is it the '
            'label file? Save it as UTF-8.'
        ) from error
    except OSError as error:
        raise FileError(
            f'{path}: expected a label file, got {error.strerror}. Check the path.'
        ) from error
    labels = [line.rstrip() for line in text.split('\n')]
    if text.endswith('\n'):
        labels.pop()
    if '' in labels:
        raise FileError(
            f'{path}: expected one class name per line, got an empty line '
            f'{labels.index("") + 1}. Remove it.'
        )
    duplicates = {name for name in labels if labels.count(name) > 1}
    if duplicates:
        raise FileError(
            f'{path}: expected every class name once, got '
            f'{min(duplicates)!r} {labels.count(min(duplicates))} times. '
            'Give the label file, not a list of videos.'
        )
    official = list_from_file(SHIPPED / 'sthv1.txt')
    if set(labels) == set(official) and labels not in (official, sorted(official)):
        raise FileError(
            f'{path}: expected the names of Something-Something V1 in the '
            'order of the official label file (Holding something, Turning '
            'something upside down, ...), got them in another. Take the '
            'official file.'
        )
    if labels == sorted(labels):
        raise FileError(
            f"{path}: expected names in another order than the authors', "
            'who sort them, got sorted names, which would change nothing. '
            'Leave --label-order out.'
        )
    return labels


def write_checkpoint(
    checkpoint: Dict[str, Any], dst: Path, recognizer: Optional[nn.Module] = None
) -> None:
    """Write a checkpoint as a whole or not at all, checked by loading it."""
    try:
        with tempfile.TemporaryDirectory(prefix='.convert_', dir=dst.parent) as folder:
            draft = Path(folder) / dst.name
            torch.save(checkpoint, draft)
            if recognizer is not None:
                load_checkpoint(
                    recognizer,
                    str(draft),
                    map_location='cpu',
                    strict=True,
                    logger='silent',
                )
            os.replace(draft, dst)
    # A full disk is a RuntimeError of torch.save.
    except (OSError, RuntimeError) as error:
        raise FileError(
            f'{dst}: expected to write a checkpoint there and to load it, '
            f'got {type(error).__name__}: {error}. Make sure that the folder '
            'can be written to and has space left.'
        ) from error
