"""Check in parallel that videos and folders of frames can be decoded."""

import faulthandler
import json
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from rich.progress import Progress

SECONDS = 60  # after which a decoder hangs
CHUNK = 64  # videos that one task checks


class Checked(NamedTuple):
    """What was found out about a video or a folder of frames."""

    frames: int
    reason: Optional[str]  # why it cannot be used


def check_video(path: Path) -> int:
    """Decode first, middle and last frame, and return how many there are.

    Raises:
        ValueError: If not all of it can be read, or it is not sure which of
            several videos in one file would be.
    """
    from aia_mmaction.datasets.video_reader import Video, has_pyav, video_streams
    from aia_mmaction.utils.files import as_command

    if not path.exists():
        raise FileNotFoundError('missing')
    video = Video(path.read_bytes())
    video.get_batch([0, len(video) // 2, len(video) - 1])
    if has_pyav():
        import av

        with av.open(str(path)) as container:
            streams = len(video_streams(container))
        if streams > 1:
            # Which one decord takes is not always the one that players show.
            new = path.with_name(f'{path.stem}_0{path.suffix}')
            ffmpeg = ('ffmpeg', '-i', path, '-map', '0:v:0', '-c', 'copy', new)
            raise ValueError(
                f'{streams} video streams; keep one: {as_command(*ffmpeg)}'
            )
    return len(video)


def check_frames(folder: Path) -> int:
    """The same of a folder with 00001.jpg, 00002.jpg, ..."""
    from PIL import Image

    if not folder.is_dir():
        raise FileNotFoundError('missing')
    names = sorted(p.name for p in folder.glob('*.jpg'))
    expected = [f'{i:05}.jpg' for i in range(1, len(names) + 1)]
    if not names:
        raise ValueError('no frames')
    if names != expected:
        gap = next(e for e, name in zip(expected, names) if e != name)
        raise ValueError(f'{gap} is missing')
    for i in sorted({0, len(names) // 2, len(names) - 1}):
        with Image.open(folder / names[i]) as image:
            image.load()  # an error if it is cut off
    return len(names)


def check(
    root: Path,
    names: Iterable[str],
    function: Callable[[Path], int],
    journal: Path,
    num_workers: int,
) -> Dict[str, Checked]:
    """Check everything that the journal does not know yet.

    Args:
        root (Path): What the names are relative to.
        names (Iterable[str]): What to check.
        function (Callable): :func:`check_video` or :func:`check_frames`.
        journal (Path): Results of earlier calls; new ones are appended at
            once. A file that has changed since is checked again.
        num_workers (int): Processes.
    """
    known = _read(journal)
    results: Dict[str, Checked] = {}
    todo = []
    for name in names:
        stamp = _stamp(root / name)
        if stamp is not None and name in known and known[name][0] == stamp:
            results[name] = known[name][1]
        else:
            todo.append(name)
    with Progress() as progress, open(journal, 'a', encoding='utf-8') as file:
        file.write('\n')  # the last run may have been stopped within a line
        task = progress.add_task('check', total=len(todo))
        for name, checked in _run(root, todo, function, num_workers):
            results[name] = checked
            file.write(json.dumps([name, _stamp(root / name), *checked]) + '\n')
            file.flush()
            progress.advance(task)
    return results


def _run(
    root: Path, names: List[str], function: Callable[[Path], int], num_workers: int
) -> Iterator[Tuple[str, Checked]]:
    """Survive decoders that crash or hang."""
    remaining = iter(names)
    while True:
        batch = list(islice(remaining, CHUNK * num_workers))
        if not batch:
            return
        try:
            # A batch whose pool breaks says nothing about which file it was.
            yield from list(_pool(root, batch, function, num_workers))
        except BrokenProcessPool:
            for name in batch:
                try:
                    yield from list(_pool(root, [name], function, 1))
                except BrokenProcessPool:
                    yield name, Checked(0, 'the decoder crashes or hangs')


def _pool(
    root: Path, names: List[str], function: Callable[[Path], int], num_workers: int
) -> Iterator[Tuple[str, Checked]]:
    with ProcessPoolExecutor(num_workers) as pool:
        futures = {
            pool.submit(_check_one, function, root / name): name for name in names
        }
        for future in as_completed(futures):
            yield futures[future], future.result()


def _check_one(function: Callable[[Path], int], path: Path) -> Checked:
    # A decoder that hangs never returns to Python. This thread needs no Python to
    # end the process.
    with open(os.devnull, 'w', encoding='utf-8') as nowhere:
        faulthandler.dump_traceback_later(SECONDS, exit=True, file=nowhere)
        try:
            return _check(function, path)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _check(function: Callable[[Path], int], path: Path) -> Checked:
    try:
        return Checked(function(path), None)
    except Exception as error:
        lines = f'{error}'.strip().splitlines()
        return Checked(0, lines[0] if lines else type(error).__name__)


def _read(journal: Path) -> Dict[str, Tuple[List[int], Checked]]:
    known = {}
    if journal.exists():
        for line in journal.read_text(encoding='utf-8').splitlines():
            try:
                name, stamp, frames, reason = json.loads(line)
            except ValueError:  # cut off in the middle of a line
                continue
            known[name] = stamp, Checked(frames, reason)
    return known


def _stamp(path: Path) -> Optional[List[int]]:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]
