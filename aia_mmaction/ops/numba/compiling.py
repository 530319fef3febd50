"""How the kernels are compiled, and by how many threads they run."""

import warnings
from functools import lru_cache, wraps
from threading import Lock, local
from types import FunctionType
from typing import Any, Callable, Optional, TypeVar

import numba
import torch

from .. import process

Result = TypeVar('Result')

# Sums in any order, so that they become vectors, and no difference between the
# zeros. NaN and infinity are what they are: maxima start at minus infinity.
FASTMATH = {'reassoc', 'contract', 'nsz', 'arcp', 'afn'}

_layer: Optional[str] = None  # numba's threads, once there are some
_lock = Lock()
_here = local()  # whether kernels of this thread may have others


def inline(function: Callable[..., Any]) -> Any:
    """Compile what kernels call."""
    return _compile(function)


class kernel:
    """A kernel, compiled when it is called first: for threads, or for one.

    numba keeps what it has compiled on disk, by the name of the function.
    """

    def __init__(self, function: Any) -> None:
        self._shared = _compile(function, parallel=True)
        name = f'{function.__name__}_alone'
        alone = FunctionType(function.__code__, function.__globals__, name)
        alone.__qualname__, alone.__module__ = name, function.__module__
        self._alone = _compile(alone)
        self.__doc__ = function.__doc__

    def __call__(self, *arguments: Any) -> None:
        """Run it by the threads of :func:`with_threads`, else by one."""
        if not getattr(_here, 'has_threads', False):
            self._alone(*arguments)
        elif _layer is None:
            self._start_threads(*arguments)
        else:
            self._shared(*arguments)

    def _start_threads(self, *arguments: Any) -> None:
        global _layer
        with _lock:
            self._shared(*arguments)
            _layer = numba.threading_layer()


def with_threads(function: Callable[..., Result]) -> Callable[..., Result]:
    """Run a function whose kernels use as many threads as are safe."""

    @wraps(function)
    def run(*arguments: Any) -> Result:
        threads = num_threads()
        _here.has_threads = threads > 1
        if threads == 1:
            return function(*arguments)
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            return function(*arguments)
        finally:
            numba.set_num_threads(before)

    return run


def num_threads() -> int:
    """Threads of a kernel: PyTorch's, or one where more are not safe.

    A forked process has no threads, and OpenMP does not know it; PyTorch's
    workers of a DataLoader have one anyway. numba's own threads, which it takes
    where there is neither OpenMP nor TBB, end the process if two threads call
    them.
    """
    if process.was_forked() or _layer == 'workqueue':
        return 1
    return min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined,no-any-return]


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    options = {'fastmath': FASTMATH, 'nogil': True, 'error_model': 'numpy', **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to write
        _warn()
        return numba.njit(**options)(function)


@lru_cache(maxsize=None)  # once
def _warn() -> None:
    warnings.warn(
        'aia_mmaction: expected a folder for what numba compiles, beside the '
        'package, in the home or NUMBA_CACHE_DIR, got none that can be written to. '
        'Every process compiles anew. Set NUMBA_CACHE_DIR to such a folder.',
        stacklevel=2,
    )
