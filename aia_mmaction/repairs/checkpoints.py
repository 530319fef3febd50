"""Checkpoints of a run that may be killed at any moment.

MMEngine writes a checkpoint into its final place, deletes the oldest one
before it, and resumes from whatever ``last_checkpoint`` names. A run that is
killed in between, or a disk that fills up, leaves half a file, or none.
"""

import os
import zipfile
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import List, Optional
from unittest.mock import patch

from ..utils.files import draft_of
from .repair import Repair


def is_whole(path: Path) -> bool:
    """Whether a checkpoint can be read to its end and is as it was written.

    Every tensor is read and its checksum compared. What is no file of
    PyTorch >= 1.6 counts as broken.
    """
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def latest_whole_checkpoint(work_dir: str) -> Optional[str]:
    """The checkpoint to resume from.

    Args:
        work_dir (str): The folder of a run.

    Returns:
        str, optional: What ``last_checkpoint`` names or, where that is
        broken, the newest that is whole; it is said in the log which are not.
        None if there is no checkpoint to resume from.

    Raises:
        RuntimeError: If there are checkpoints, and all of them are broken.
    """
    from mmengine.logging import print_log

    pointer = Path(work_dir) / 'last_checkpoint'
    named = pointer.read_text(encoding='utf-8').strip() if pointer.exists() else ''
    folder = Path(named).parent if named else Path(work_dir)
    # The best ones are without the optimizer.
    saved = sorted(
        (p for p in folder.glob('*.pth') if not p.name.startswith(('best_', '.'))),
        key=lambda p: p.stat().st_mtime_ns,
        reverse=True,
    )
    if not saved and not named:
        return None
    last = Path(named) if named else saved[0]
    broken: List[str] = []
    for path in [last, *(p for p in saved if p != last)]:
        if is_whole(path):
            if broken:
                print_log(
                    f'{", ".join(broken)} cannot be read: not all of it was '
                    f'written. Training goes on from {path}.',
                    logger='current',
                    level=30,
                )
            return str(path)
        broken.append(str(path))
    raise RuntimeError(
        f'Expected a checkpoint to resume from, got none that can be read: '
        f'{", ".join(broken)}. Delete them to train from the beginning, or '
        'name another with --resume CHECKPOINT.'
    )


def _writes_in_place() -> bool:
    from mmengine.fileio import LocalBackend

    with TemporaryDirectory() as folder:
        path = Path(folder, 'checkpoint')
        path.write_bytes(b'old')
        file = path.stat().st_ino
        LocalBackend().put(b'new', path)
        return path.stat().st_ino == file


def _keep_checkpoints() -> None:
    """Have MMEngine write whole files or none, and delete afterwards."""
    from mmengine.fileio import LocalBackend
    from mmengine.hooks import CheckpointHook
    from mmengine.runner import runner

    def put(self, obj, filepath):
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_of(path) as draft:
            draft.write_bytes(obj)

    LocalBackend.put = put
    for name in ('_save_checkpoint_with_step', '_save_best_checkpoint'):
        if hasattr(CheckpointHook, name):
            setattr(CheckpointHook, name, _removing_last(getattr(CheckpointHook, name)))
    runner.find_latest_checkpoint = latest_whole_checkpoint


def _removing_last(save):
    from mmengine.fileio import LocalBackend

    @wraps(save)
    def repaired(self, *args, **kwargs):
        if not isinstance(self.file_backend, LocalBackend):
            return save(self, *args, **kwargs)
        removed = {}

        def remove(path):
            removed[path] = os.stat(path).st_ino

        with patch.object(self.file_backend, 'remove', remove):
            save(self, *args, **kwargs)
        for path, inode in removed.items():
            if os.stat(path).st_ino == inode:  # not the one just written
                self.file_backend.remove(path)

    return repaired


REPAIR = Repair(
    symptom='MMEngine writes a checkpoint where the last one was '
    'deleted, so a run that is killed, or a full disk, leaves half of one '
    'or none to resume from',
    affected='mmengine 0.10.4 to 0.11.0rc3',
    is_broken=_writes_in_place,
    mend=_keep_checkpoints,
)
