"""Decoding that names the file it fails on, and can go on without it.

MMAction2's own transforms raise whatever the decoder says, which names no
file. These take their places in a pipeline.
"""

import multiprocessing
import os
import tempfile
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

import numpy as np
from mmaction.datasets.transforms import DecordDecode, DecordInit, RawFrameDecode
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform
from mmengine.fileio import FileClient
from mmengine.logging import print_log

from .video_reader import Video, VideoError

# So many draws at least are what a share is of, or the first broken video
# would be all of the first draws.
MIN_DRAWS = 1000
NAMES_IN_ERROR = 50
BLANK_SHAPE = 240, 320  # height and width, as Something-Something's


class FrameError(ValueError):
    """The picture of a frame is missing or broken."""


class TooManyUnreadable(RuntimeError):
    """More files cannot be read than training is allowed to leave out."""


class UnreadableError(RuntimeError):
    """A file cannot be read where each one counts."""


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # not a worker
        path.unlink(missing_ok=True)


class Failures:
    """Which files failed, in all workers of a data loader together."""

    def __init__(self) -> None:
        # For workers that are forked as well as for spawned ones
        self._draws = multiprocessing.get_context('spawn').Value('q', 0)
        # Appended to by processes that know nothing of each other. Nothing is
        # written before a failure, so that a killed run leaves nothing behind.
        self._list = Path(tempfile.gettempdir()) / f'unreadable-{uuid.uuid4()}.txt'
        # At exit too, where __del__ is not sure to be called
        weakref.finalize(self, _remove, self._list, os.getpid())

    def __deepcopy__(self, memo: dict) -> 'Failures':
        return self  # a copied pipeline reads the same files

    def draw(self) -> None:
        """Count a video that is about to be read."""
        with self._draws.get_lock():
            self._draws.value += 1

    @property
    def draws(self) -> int:
        """How many videos were read, by all workers."""
        return self._draws.value

    def add(self, name: str) -> List[str]:
        """Add one, and return all so far."""
        with open(self._list, 'a', encoding='utf-8') as file:
            file.write(f'{name}\n')
        return self._list.read_text(encoding='utf-8').splitlines()


class ReadableMixin(BaseTransform if TYPE_CHECKING else object):  # type: ignore[misc]
    """What a decoding transform does about a file that it cannot read.

    Args:
        *args: Passed to the transform.
        on_error (str): ``'skip'`` for training: the file is named in the log
            and the dataset draws another sample; ``'raise'``: an error that
            names the file; ``'blank'``: black frames take its place, which
            the log says too. Defaults to ``'raise'``.
        max_share (float): For ``'skip'``, the share of drawn samples that may
            be unreadable. Defaults to 0.01.
        **kwargs: Passed to the transform.

    Raises:
        ValueError: If ``on_error`` is none of the three.
        UnreadableError: When a file cannot be read, with ``'raise'``.
        TooManyUnreadable: When more than ``max_share`` of the samples, of
            1,000 at least, could not be read; it lists them.
    """

    def __init__(
        self, *args, on_error: str = 'raise', max_share: float = 0.01, **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        if on_error not in ('skip', 'raise', 'blank'):
            raise ValueError(
                f"{type(self).__name__}: expected on_error 'skip'"
                f", 'raise' or 'blank', got {on_error!r}."
            )
        self.on_error = on_error
        self.max_share = max_share
        self.failures = Failures() if on_error == 'skip' else None

    def transform(self, results: Dict) -> Optional[Dict]:
        """Read, or do what ``on_error`` says.

        What is not about the file is raised as it is, such as a KeyError of a
        transform that is missing before.
        """
        if 'array' in results or 'imgs' in results:  # frames that are there already
            return results
        if results.get('unreadable'):
            return self._blank(results)
        if self.failures is not None:
            self.failures.draw()
        try:
            return self._decode(results)
        except (VideoError, FrameError, OSError) as error:
            name = str(results.get('filename', results.get('frame_dir')))
            return self._fail(results, name, f'{error}'.strip() or type(error).__name__)

    def _decode(self, results: Dict) -> Dict:
        return super().transform(results)

    def _fail(self, results: Dict, name: str, reason: str) -> Optional[Dict]:
        reason = f'{name} cannot be read: {reason.splitlines()[0]}'
        if self.on_error == 'raise':
            raise UnreadableError(
                f'{reason}. Replace the file, take it out of the list, or set '
                f"on_error='blank' of {type(self).__name__} to have a black "
                'clip in its place.'
            )
        if self.on_error == 'blank':
            self._warn(f'{reason}; a black clip takes its place.')
            return self._blank(results)
        assert self.failures is not None  # 'skip' has them
        failed = self.failures.add(name)
        draws = self.failures.draws
        self._warn(
            f'{reason}; another sample is drawn ({len(failed)} of {draws} so far).'
        )
        if len(failed) > self.max_share * max(draws, MIN_DRAWS):
            names = list(dict.fromkeys(failed))
            more = len(names) - NAMES_IN_ERROR
            raise TooManyUnreadable(
                f'Expected at most {self.max_share:.2%} of the samples to be '
                f'unreadable, got {len(failed)} of {draws}:\n'
                + '\n'.join(names[:NAMES_IN_ERROR])
                + (f'\nand {more} more' if more > 0 else '')
                + '\nReplace the files, take them out of the list, or raise '
                f'max_share of {type(self).__name__}.'
            )
        return None  # the dataset draws another one

    def _warn(self, text: str) -> None:
        print_log(text, logger='current', level=30)

    def _blank(self, results: Dict) -> Dict:
        """Black frames where frames are chosen, and something to choose from
        where they are not yet.
        """
        results['unreadable'] = True
        if 'frame_inds' not in results:
            results.update(total_frames=1, avg_fps=1.0, video_reader=None)
            return results
        results.pop('video_reader', None)
        frame = np.zeros((*BLANK_SHAPE, 3), np.uint8)
        results['imgs'] = [frame] * np.size(results['frame_inds'])
        results['original_shape'] = results['img_shape'] = BLANK_SHAPE
        return results


@TRANSFORMS.register_module()
class ReadableDecordInit(ReadableMixin, DecordInit):
    """MMAction2's ``DecordInit``, see :class:`ReadableMixin`.

    What decord reads wrongly or not at all, PyAV reads; see :class:`.Video`.
    """

    file_client: Any

    def _decode(self, results: Dict) -> Dict:
        filename = results['filename']
        if not Path(filename).suffix:  # as MMAction2 does
            filename = f'{filename}.mp4'
        if self.file_client is None:
            self.file_client = FileClient(self.io_backend, **self.kwargs)
        video = Video(self.file_client.get(filename), self.num_threads)
        results['total_frames'] = len(video)
        results['video_reader'] = video
        results['avg_fps'] = video.get_avg_fps()
        return results


@TRANSFORMS.register_module()
class ReadableDecordDecode(ReadableMixin, DecordDecode):
    """MMAction2's ``DecordDecode``, see :class:`ReadableMixin`.

    Raises:
        ValueError: For ``mode='efficient'``, which gives other frames than asked.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.mode != 'accurate':
            raise ValueError(
                f"ReadableDecordDecode: expected mode='accurate', got {self.mode!r}, "
                "which gives the key frames nearby. Use MMAction2's DecordInit and "
                'DecordDecode for that.'
            )


@TRANSFORMS.register_module()
class ReadableRawFrameDecode(ReadableMixin, RawFrameDecode):
    """MMAction2's ``RawFrameDecode``, see :class:`ReadableMixin`."""

    def _decode(self, results: Dict) -> Dict:
        for key in ('frame_dir', 'filename_tmpl', 'modality', 'frame_inds'):
            results[key]  # a KeyError is not about the file
        try:
            return super()._decode(results)
        except Exception:
            # OpenCV does not say which one.
            for index in np.ravel(results['frame_inds']):
                try:
                    super()._decode(dict(results, frame_inds=np.array([index])))
                except Exception as error:
                    number = index + results.get('offset', 0)
                    of = ('x', number) if results['modality'] == 'Flow' else (number,)
                    name = results['filename_tmpl'].format(*of)
                    raise FrameError(f'{name}: {error}') from error
            raise
