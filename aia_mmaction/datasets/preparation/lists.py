"""The list files of a benchmark, from what its owners ship."""

import os
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, Optional

from rich import box
from rich.console import Console
from rich.table import Table

from aia_mmaction.utils.files import write_text

from . import annotations
from .annotations import AnnotationError
from .archives import unpack
from .checking import check, check_frames, check_video
from .depth import convert

BENCHMARKS = ('sthv1', 'sthv2', 'jester', 'diving48', 'egtea', 'utd-mhad', 'jhmdb')
OF_FRAMES = ('sthv1', 'jester')  # published as folders of pictures


def _link_media(benchmark: str, names: List[str], source: Path, target: Path) -> Path:
    """Link the folder that the names are relative to into the target."""
    link = target / ('rawframes' if benchmark in OF_FRAMES else 'videos')
    if link.exists():
        return link
    # A few may be missing: where most of the first hundred are, is the folder.
    probes = {PurePosixPath(name).name: name for name in names[:100]}
    folders: Dict[Path, int] = {}
    for top in (source, target / 'unpacked'):
        for folder, below, files in os.walk(top):
            found = probes.keys() & {*below, *files}
            for name in found:
                depth = len(PurePosixPath(probes[name]).parts)
                root = (Path(folder) / name).parents[depth - 1]
                if root / probes[name] == Path(folder) / name:
                    folders[root] = folders.get(root, 0) + 1
            if found:
                below.clear()  # there may be millions of frames
    if not folders:
        raise FileNotFoundError(
            f'Expected the videos or their archives in {source}, got no '
            f'{names[0]} there or below. Give the folder that you downloaded '
            'them to.'
        )
    link.unlink(missing_ok=True)  # a link to what is gone
    link.symlink_to(max(folders, key=lambda folder: folders[folder]).resolve())
    return link


def _check_names(names: List[str]) -> None:
    """Names come from a download and end in paths and lists."""
    for name in names:
        if (
            PurePosixPath(name).is_absolute()
            or '..' in name.split('/')
            or len(name.split()) != 1
        ):
            raise AnnotationError(
                'Expected names of videos without spaces and "..", got '
                f'{name!r}. Do not trust this file.'
            )


def _list_line(benchmark: str, name: str, frames: int, number: Optional[int]) -> str:
    """``name [frames] [number]``, as MMAction2 reads it."""
    parts: List[Any] = [name]
    if benchmark in OF_FRAMES:
        parts.append(frames)
    if number is not None:
        parts.append(number)
    return ' '.join(map(str, parts)) + '\n'


def prepare(
    benchmark: str, source: Path, target: Path, num_workers: int, **options: Any
) -> None:
    """Make the list files of a benchmark.

    Args:
        benchmark (str): One of :data:`BENCHMARKS`.
        source (Path): The folder with everything that was downloaded.
        target (Path): The folder of the lists.
        num_workers (int): Processes that check the videos.
        options: Those of the reader of the annotations.

    Raises:
        AnnotationError: If the owners' files are not what they should be.
        ArchiveError: If an archive cannot be unpacked.
        ImportError: If a library is missing that writes videos.
        OSError: If something is missing or cannot be written.
    """
    read = partial(getattr(annotations, benchmark.replace('-', '_')), **options)
    if not source.is_dir():
        raise FileNotFoundError(
            f'Expected a folder with the download, got {source}. Check the path.'
        )
    target.mkdir(parents=True, exist_ok=True)
    unpack(source, target / 'unpacked')
    try:
        found = read(source)
    except AnnotationError:
        if not (target / 'unpacked').exists():
            raise
        found = read(target / 'unpacked')
    names = list(dict.fromkeys(n for s in found.splits for n in s.videos))
    _check_names(names)
    unmade = {}
    if found.recordings:
        unmade = convert(found.recordings, target / 'videos', num_workers)
    media = _link_media(benchmark, names, source, target)
    function = check_frames if benchmark in OF_FRAMES else check_video
    checked = check(media, names, function, target / '.checked.jsonl', num_workers)

    write_text(target / 'labels.txt', '\n'.join(found.labels) + '\n')
    broken = {n: checked[n].reason for n in names if checked[n].reason}
    broken.update(unmade)
    write_text(
        target / 'unreadable.txt',
        ''.join(f'{n}: {reason}\n' for n, reason in broken.items()),
    )
    if len(broken) == len(names):
        raise FileNotFoundError(
            f'Expected videos in {media}, got none that can be read; the '
            f'first one: {next(iter(broken.items()))}. No list was changed.'
        )
    table = Table('list', 'videos', 'unreadable', 'published', box=box.SIMPLE)
    for split in found.splits:
        good = {n: k for n, k in split.videos.items() if n not in broken}
        write_text(
            target / split.list_file,
            ''.join(
                _list_line(benchmark, n, checked[n].frames, k) for n, k in good.items()
            ),
        )
        table.add_row(
            split.list_file,
            f'{len(good):,}',
            f'{len(split.videos) - len(good):,}',
            f'{split.published:,}' if split.published else '',
        )
    if found.published:
        table.add_row(
            'all different videos',
            f'{len(names) - len(broken):,}',
            f'{len(broken):,}',
            f'{found.published:,}',
        )
    Console().print(table)
    if broken:
        print(
            f'{len(broken):,} unreadable videos are left out; see '
            f'{target / "unreadable.txt"}.'
        )
    if options.get('label_order') == 'sorted' and benchmark != 'sthv2':
        print(
            'The classes are sorted: in the config, set '
            f"dict(type='FlipByLabelName', labels='{target}/labels.txt')."
        )
