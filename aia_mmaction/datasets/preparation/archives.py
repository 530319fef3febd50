"""Unpack what the benchmarks' owners pack, only ever below one folder."""

import io
import re
import shutil
import tarfile
import zipfile
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Dict, Iterator, List

from rich.progress import wrap_file

# Something-Something is one .tgz in parts: 20bn-something-something-v1-00, ...
PART = re.compile(r'(.+-v[12])-\d\d$')
ARCHIVES = ('.zip', '.tar', '.tgz', '.tar.gz', '.tar.bz2', '.tar.xz')


class ArchiveError(ValueError):
    """An archive is broken, or would write outside the target."""


def unpack(source: Path, target: Path) -> None:
    """Unpack all archives in ``source`` into ``target``.

    What is there already, with its size, is not written again, and an archive
    that was unpacked to its end is not read again.

    Raises:
        ArchiveError: If an archive cannot be read or has a member that would
            lie outside ``target``.
    """
    # An archive may hold the parts of another one.
    for folder in (source, target):
        for name, parts in sorted(_find(folder).items()):
            done = target / f'.{name}.unpacked'
            if not done.exists():
                target.mkdir(parents=True, exist_ok=True)
                _unpack(name, parts, target)
                done.touch()


def _find(folder: Path) -> Dict[str, List[Path]]:
    found: Dict[str, List[Path]] = {}
    for path in sorted(folder.glob('*')):
        part = PART.match(path.name)
        if (part or path.name.endswith(ARCHIVES)) and path.is_file():
            found.setdefault(part[1] if part else path.name, []).append(path)
    return found


def _unpack(name: str, parts: List[Path], target: Path) -> None:
    try:
        if parts[0].suffix == '.zip':
            _unpack_zip(parts[0], target)
        else:
            _unpack_tar(name, parts, target)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        what = f'{parts[0]} and its parts' if len(parts) > 1 else parts[0]
        raise ArchiveError(
            f'{what}: expected a whole archive, got {error!r}. Download it again.'
        ) from error


def _unpack_tar(name: str, parts: List[Path], target: Path) -> None:
    if not hasattr(tarfile, 'data_filter'):
        raise ArchiveError(
            f'{parts[0]}: expected a Python whose tarfile filters members '
            '(3.8.17, 3.9.17, 3.10.12, 3.11.4 or later), got an older one. '
            'Update it, or unpack the archive yourself.'
        )
    size = sum(part.stat().st_size for part in parts)
    with wrap_file(
        io.BufferedReader(_Parts(parts)), size, description=f'unpack {name}'
    ) as file:
        with tarfile.open(fileobj=file, mode='r|*') as archive:
            for member in archive:
                if not _is_there(target / member.name, member.size):
                    archive.extract(member, target, filter='data')


def _unpack_zip(path: Path, target: Path) -> None:
    root = target.resolve()
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            place = (root / member.filename).resolve()
            if root != place and root not in place.parents:
                raise ArchiveError(
                    f'{path}: expected members below {target}, '
                    f'got {member.filename!r}. Do not trust '
                    'this file.'
                )
            if not member.is_dir() and not _is_there(place, member.file_size):
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as src, open(place, 'wb') as dst:
                    shutil.copyfileobj(src, dst)


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


class _Parts(io.RawIOBase):
    """Files one behind the other, as one to read from."""

    def __init__(self, paths: List[Path]) -> None:
        self._files: Iterator[BufferedIOBase] = (open(path, 'rb') for path in paths)
        self._file = next(self._files)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)
        while not count and buffer:
            self._file.close()
            following = next(self._files, None)
            if following is None:
                self._file = io.BytesIO()
                return 0
            self._file = following
            count = self._file.readinto(buffer)
        return count
