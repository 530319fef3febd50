"""Recordings of a depth camera as grey videos."""

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Dict, Mapping, Optional

import numpy as np
from rich.progress import track

from aia_mmaction.utils.files import draft_of

# Of UTD-MHAD, whose people stand in the middle, 2 to 3.6 m away
COLUMNS = slice(33, 273)  # of 320, a square
NEAR, FAR = 2000, 3600  # millimetres
BRIGHT, DARK = 255, 55  # of near and far; what was not read is 0
SIZE = 160  # pixels
FPS = 30
QUALITY = 18  # of H.264; 0 has no loss


def to_frames(depth: np.ndarray) -> np.ndarray:
    """Millimetres to brightness.

    Args:
        depth (np.ndarray): ``[240, 320, frames]``, 0 where nothing was read.

    Returns:
        np.ndarray: ``[frames, SIZE, SIZE]``, uint8.
    """
    import cv2

    depth = depth[:, COLUMNS].astype(np.float32)
    nearness = (FAR - depth.clip(NEAR, FAR)) / (FAR - NEAR)
    grey = np.where(depth == 0, 0, DARK + (BRIGHT - DARK) * nearness)
    pixels = grey.round().astype(np.uint8)
    # [240, 240, frames] -> frames of [SIZE, SIZE]
    frames = [
        cv2.resize(
            np.ascontiguousarray(frame), (SIZE, SIZE), interpolation=cv2.INTER_AREA
        )
        for frame in np.moveaxis(pixels, 2, 0)
    ]
    return np.stack(frames)


def write_video(frames: np.ndarray, path: Path) -> None:
    """Write grey frames ``[frames, H, W]`` as H.264."""
    import av

    with draft_of(path) as draft, av.open(str(draft), 'w') as container:
        stream = container.add_stream(
            'libx264', rate=FPS, options={'crf': str(QUALITY)}
        )
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = 'yuv420p'
        stream.codec_context.thread_count = 1  # as the processes are many
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format='gray')
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def convert(
    recordings: Mapping[str, Path], target: Path, num_workers: int
) -> Dict[str, str]:
    """Make the videos that are not there yet.

    Args:
        recordings (Mapping[str, Path]): Names of videos and the ``.mat`` files
            that they are made of.
        target (Path): The folder of the videos.
        num_workers (int): Processes.

    Returns:
        dict[str, str]: Why a video could not be made, by its name.

    Raises:
        ImportError: If PyAV is not installed.
    """
    from aia_mmaction.datasets.video_reader import PYAV, has_pyav

    if not has_pyav():
        raise ImportError(f'Expected PyAV, which writes videos, got none: {PYAV}.')
    target.mkdir(parents=True, exist_ok=True)
    todo = {
        name: path
        for name, path in recordings.items()
        if _is_newer(path, target / name)
    }
    with ProcessPoolExecutor(num_workers) as pool:
        tasks = {
            name: pool.submit(_convert, path, target / name)
            for name, path in todo.items()
        }
        return {
            name: reason
            for name, task in track(tasks.items(), 'convert', disable=not tasks)
            if (reason := task.result()) is not None
        }


def _is_newer(source: Path, made: Path) -> bool:
    return not made.exists() or os.path.getmtime(source) > os.path.getmtime(made)


def _convert(source: Path, path: Path) -> Optional[str]:
    """Why it did not work."""
    from scipy.io import loadmat

    try:
        depth = loadmat(str(source))['d_depth']
        if depth.ndim != 3 or depth.shape[:2] != (240, 320):
            raise ValueError(f'expected [240, 320, frames], got {list(depth.shape)}')
        write_video(to_frames(depth), path)
    except Exception as error:  # whatever a broken file makes of its readers
        return f'{source.name}: {type(error).__name__}: {error}'
    return None
