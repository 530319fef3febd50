"""Files that the tools read and write."""

import argparse
import os
import shlex
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place when the block has ended.

    After an error ``path`` is as it was. A process that is killed leaves its
    draft behind, and the next one to write ``path`` uses the same. It ends
    like ``path``, for writers that go by the name.
    """
    draft = path.with_name(f'.{path.stem}.draft{path.suffix}')
    try:
        yield draft
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, also where the disk is full."""
    with draft_of(path) as draft:
        draft.write_text(text, encoding='utf-8')


def as_command(*parts: object) -> str:
    """A command that can be pasted into the shell of this system."""
    words = [str(part) for part in parts]
    return subprocess.list2cmdline(words) if os.name == 'nt' else shlex.join(words)


def existing_file(name: str) -> str:
    """The type of an argument that names a file to read."""
    if not Path(name).is_file():
        raise argparse.ArgumentTypeError(
            f'{name}: expected a file, got none. Check the path.'
        )
    return name


def config_file(name: str) -> str:
    """The type of an argument that names a config."""
    if Path(name).suffix not in ('.py', '.json', '.yml', '.yaml'):
        raise argparse.ArgumentTypeError(
            f'{name}: expected a config of MMEngine, .py, .json or .yaml.'
        )
    return existing_file(name)
