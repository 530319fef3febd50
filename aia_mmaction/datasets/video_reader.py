"""Videos whose frames come in the order in which players show them.

decord counts packets, not frames: of a video that was cut without encoding it
again, of an AVI with B-frames, or with a broken time scale, it repeats frames
and goes back in time. The times that it gives its frames tell: those of a sound
file begin at 0 or later and increase. All others are read by PyAV.
"""

import io
from functools import lru_cache
from importlib import import_module
from typing import Any, Iterable, Iterator, List, NamedTuple

import decord
import numpy as np
from mmengine.logging import print_log

PYAV = 'pip install "av>=15" (with Python 3.9 or newer)'


class VideoError(ValueError):
    """A file is no video, or not all of it can be read."""


class Batch(NamedTuple):
    """Frames, as decord returns them."""

    frames: np.ndarray

    def asnumpy(self) -> np.ndarray:
        """``[T, H, W, 3]``, RGB of uint8."""
        return self.frames


class PyAVReader:
    """A video that is decoded from its beginning, in the order of presentation.

    It has what MMAction2 asks a ``decord.VideoReader`` for. Frames are counted by
    decoding them, since headers may be wrong, and turned as the file says.

    Args:
        content (bytes): The file.

    Raises:
        ValueError: If there is no video, no frame, or not all that should be.
        av.FFmpegError: If it cannot be decoded.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        times = [frame.time for frame in self._frames()]
        if not times:
            raise ValueError('expected frames, got none that can be decoded')
        if None not in times and not (np.diff(times) > 0).all():
            raise ValueError('expected frames in order, got times that do not increase')
        self.length = len(times)
        lasts = None if None in times else times[-1] - times[0]
        self.fps = (self.length - 1) / lasts if lasts else 1.0

    def __len__(self) -> int:
        return self.length

    def get_avg_fps(self) -> float:
        """Frames per second, from the times of the first and the last one."""
        return self.fps

    def get_batch(self, indices: Iterable[int]) -> Batch:
        """Frames by their numbers, in any order."""
        wanted = [int(index) for index in np.ravel(list(indices))]
        left, found = set(wanted), {}
        for index, frame in enumerate(self._frames()):
            if index in left:
                left.remove(index)
                found[index] = _as_shown(frame)
            if not left:
                break
        return Batch(np.stack([found[index] for index in wanted]))

    def _frames(self) -> Iterator[Any]:
        import av

        with av.open(io.BytesIO(self.content), mode='r') as container:
            stream = shown_stream(container)
            packets = 0
            for packet in container.demux(stream):
                packets += packet.size > 0
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise ValueError(f'frame at {frame.time} s is corrupt')
                    yield frame
            if packets < stream.frames:
                raise ValueError(f'ends after {packets} of {stream.frames} packets')


def has_pyav() -> bool:
    """Whether PyAV is here and tells how a video is to be shown, as 15 does."""
    try:
        stream, frame = import_module('av.stream'), import_module('av.video.frame')
    except ImportError:
        return False
    return hasattr(stream, 'Disposition') and hasattr(frame.VideoFrame, 'rotation')


def video_streams(container: Any) -> List[Any]:
    """Those of an opened file that are no cover pictures."""
    from av.stream import Disposition

    return [
        stream
        for stream in container.streams.video
        if Disposition.attached_pic not in stream.disposition
    ]


def shown_stream(container: Any) -> Any:
    """The video stream that players show: the one that is marked as default."""
    from av.stream import Disposition

    streams = video_streams(container)
    if not streams:
        raise ValueError('expected a video, got none in the file')
    default = [s for s in streams if Disposition.default in s.disposition]
    return (default or streams)[0]


def _as_shown(frame: Any) -> np.ndarray:
    """``[H, W, 3]``, turned as the file says, by a multiple of 90 degrees."""
    return np.rot90(frame.to_ndarray(format='rgb24'), frame.rotation // 90)


def is_in_order(reader: decord.VideoReader) -> bool:
    """Whether decord gives a file's frames as players show them."""
    # [T, 2] of beginnings and ends
    times = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0]
    return len(times) > 0 and times[0] >= 0 and (np.diff(times) > 0).all()


class Video:
    """A video, read by decord where that is right and by PyAV elsewhere.

    It has what MMAction2 asks a ``decord.VideoReader`` for.

    Args:
        content (bytes): The file.
        num_threads (int): Of decord. Defaults to 1.

    Raises:
        VideoError: If neither can read all of it; later, too, since decord
            decodes what is asked for.
    """

    def __init__(self, content: bytes, num_threads: int = 1) -> None:
        self.content = content
        try:
            self.reader = decord.VideoReader(
                io.BytesIO(content), num_threads=num_threads
            )
        except Exception as error:  # RuntimeError, DECORDError and others
            self.reader = self._by_pyav(_first_line(error))
        else:
            if not is_in_order(self.reader):
                self.reader = self._by_pyav('its frames are not in order')

    def __len__(self) -> int:
        return len(self.reader)

    def get_avg_fps(self) -> float:
        """Frames per second."""
        return self.reader.get_avg_fps()

    def get_batch(self, indices: Iterable[int]) -> Any:
        """Frames by their numbers, in any order; ``asnumpy()`` gives
        ``[T, H, W, 3]``, RGB of uint8.

        Raises:
            IndexError: If there is no such frame.
            VideoError: If one cannot be decoded.
        """
        missing = [i for i in np.ravel(list(indices)) if not 0 <= i < len(self)]
        if missing:
            raise IndexError(f'expected frames 0 to {len(self) - 1}, got {missing[0]}')
        if not isinstance(self.reader, PyAVReader):
            try:
                return self.reader.get_batch(indices)
            except Exception as error:
                length, self.reader = len(self), self._by_pyav(_first_line(error))
                if len(self) != length:
                    raise VideoError(
                        f'expected {length} frames, as decord says, got {len(self)} '
                        'by PyAV'
                    ) from error
        try:
            return self.reader.get_batch(indices)
        except Exception as error:
            raise VideoError(f'by PyAV: {_first_line(error)}') from error

    def _by_pyav(self, reason: str) -> PyAVReader:
        if not has_pyav():
            raise VideoError(f'by decord: {reason}. PyAV may read it: {PYAV}')
        try:
            reader = PyAVReader(self.content)
        except Exception as error:
            raise VideoError(
                f'by decord: {reason}; by PyAV: {_first_line(error)}'
            ) from error
        _say_once()
        return reader


def _first_line(error: Exception) -> str:
    return (f'{error}'.strip() or type(error).__name__).splitlines()[0]


@lru_cache(maxsize=None)
def _say_once() -> None:
    print_log(
        'Videos that decord does not read, or not in order, are read by PyAV, from '
        'the beginning of each file. To read them faster, encode them again.',
        logger='current',
    )
