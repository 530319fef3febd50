"""Checkpoints are data: whatever else is in one is refused.

MMEngine leaves it to PyTorch how a checkpoint is read. From 2.6 on that
refuses what MMEngine itself saves; older versions, and MMEngine's loader of
URLs with any version, run the code in the file.
"""

import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter
from functools import wraps
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Callable, Dict
from unittest.mock import patch

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner.checkpoint import CheckpointLoader

from .predictions import latin1

# From then on, PyTorch can be told all that it needs to allow.
_TELLS_PYTORCH = torch.__version__ >= (2, 6)
_torch_load = torch.load

# A pickled HistoryBuffer refers to its statistics, and the state of MMEngine's
# one-cycle schedule to its annealing function, by getattr(class, name).
_METHODS = {
    HistoryBuffer: ('min', 'max', 'current', 'mean'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


def _method_in_checkpoint(obj: type, name: str) -> Callable:
    """The only ``getattr`` that a checkpoint of MMEngine needs.

    The builtin would let a file reach any attribute of anything.
    """
    if isinstance(obj, type) and name in _METHODS.get(obj, ()):
        return getattr(obj, name)
    raise ValueError(
        'Checkpoint refused: expected it to ask for a statistics method of '
        'HistoryBuffer or an annealing function, got '
        f'getattr({obj!r}, {name!r}), which no checkpoint of MMEngine does. '
        'Do not load files that you do not trust.'
    )


class _ArrayName:
    """What ``numpy.ndarray`` means in a checkpoint: a name, nothing to call.

    What is allowed is called with the file's own arguments, and an ndarray
    of objects over a buffer of bytes reads arbitrary memory.
    """

    def __new__(cls, *args):
        raise ValueError(
            'Checkpoint refused: expected arrays as NumPy pickles them, got a '
            'call of numpy.ndarray, which no checkpoint of MMEngine makes. Do '
            'not load files that you do not trust.'
        )


def _empty_array(*args) -> np.ndarray:
    """The array that a pickle begins with and then fills, see NumPy's
    ``_reconstruct``; the arguments are always these.
    """
    return _MULTIARRAY._reconstruct(np.ndarray, (0,), b'b')


# NumPy 1.26 has a numpy._core too, but no more in it than names.
_MULTIARRAY = import_module(
    'numpy._core.multiarray'
    if int(np.__version__.split('.')[0]) >= 2
    else 'numpy.core.multiarray'
)


def _saved_by_mmengine() -> Dict[str, Any]:
    """What its checkpoints name beside tensors, and what is taken for it."""
    classes = [*_METHODS, np.dtype]
    classes += {type(np.dtype(code)) for code in '?bhilqBHILQefd'}
    allowed = {f'{c.__module__}.{c.__qualname__}': c for c in classes}
    for core in ('numpy._core', 'numpy.core'):
        allowed[f'{core}.multiarray._reconstruct'] = _empty_array
        allowed[f'{core}.multiarray.scalar'] = _MULTIARRAY.scalar
    allowed['numpy.ndarray'] = _ArrayName
    allowed['builtins.getattr'] = _method_in_checkpoint
    return allowed


class _Unpickler(pickle._Unpickler):
    """Of PyTorch < 2.6, whose own one cannot be told what else to allow."""

    def find_class(self, module: str, name: str) -> Any:
        # As Python 2, whose protocol PyTorch writes, called it
        module, name = NAME_MAPPING.get(
            (module, name), (IMPORT_MAPPING.get(module, module), name)
        )
        allowed = {
            **torch._weights_only_unpickler._get_allowed_globals(),
            # Later versions allow these on their own.
            'collections.Counter': Counter,
            '_codecs.encode': latin1,
            **_saved_by_mmengine(),
        }
        if f'{module}.{name}' not in allowed:
            raise pickle.UnpicklingError(
                'Weights only load failed: expected tensors, arrays and the '
                f'state of MMEngine, got {module}.{name}. Do not load files '
                'that you do not trust.'
            )
        return allowed[f'{module}.{name}']


_PICKLE_MODULE = SimpleNamespace(
    __name__=__name__,
    Unpickler=_Unpickler,
    load=lambda file, **kwargs: _Unpickler(file, **kwargs).load(),
)


def _load(file: Any, map_location: Any = None, **kwargs) -> Any:
    """:func:`torch.load` of data only, whatever the caller says."""
    if _TELLS_PYTORCH:
        kwargs['weights_only'] = True
    else:
        kwargs['weights_only'] = False
        kwargs['pickle_module'] = _PICKLE_MODULE
    return _torch_load(file, map_location, **kwargs)


def load_weights_only() -> None:
    """Have MMEngine load what it saves, and nothing that runs."""
    if _TELLS_PYTORCH:
        torch.serialization.add_safe_globals(
            [
                *((obj, name) for name, obj in _saved_by_mmengine().items()),
                # Allows an array to be filled, under a name that no file can
                # spell.
                (np.ndarray, 'numpy\nndarray'),
            ]
        )
    load_checkpoint = CheckpointLoader.load_checkpoint.__func__

    @wraps(load_checkpoint)
    def repaired(cls, *args, **kwargs):
        with patch('torch.load', _load):
            return load_checkpoint(cls, *args, **kwargs)

    CheckpointLoader.load_checkpoint = classmethod(repaired)
