"""Checkpoints are data: whatever else is in one is refused.

MMEngine leaves it to PyTorch how a checkpoint is read, or asks for anything
that is in it. PyTorch >= 2.6 refuses what MMEngine itself saves; older
versions, MMEngine 0.11, and MMEngine's loader of URLs with any version, run
the code in the file.

So the modules that load find another ``torch`` under that name, whose ``load``
is :func:`load`; nobody else sees it. Whether that holds is tried: each loader
of MMEngine is given a checkpoint that would call :func:`_sing`, and is not used
if it does.
"""

import io
import os
import pickle
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter
from contextlib import contextmanager
from functools import lru_cache, wraps
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import local
from types import ModuleType, SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple
from urllib.parse import urlparse
from urllib.request import url2pathname
from warnings import catch_warnings, simplefilter

from .on_disk import Edit
from .repair import Repair

# Their `torch.load` gets files of users.
_LOADING_MODULES = (
    'mmengine.runner.checkpoint',
    'mmaction.models.roi_heads.shared_heads.lfb',
    'mmaction.models.roi_heads.shared_heads.lfb_infer_head',
    'mmaction.datasets.charades_sta_dataset',
)
_ADVICE = 'Do not load files that you do not trust.'


# What a checkpoint may hold


@lru_cache(None)
def _methods() -> Dict[type, Tuple[str, ...]]:
    """What checkpoints refer to by ``getattr(class, name)``: the statistics of
    HistoryBuffers, and the annealing function of MMEngine's one-cycle schedule.
    """
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    return {
        HistoryBuffer: ('min', 'max', 'current', 'mean'),
        OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
    }


def _method_in_checkpoint(obj: type, name: str) -> Callable:
    """The only ``getattr`` that a checkpoint of MMEngine needs.

    The builtin would let a file reach any attribute of anything.
    """
    if isinstance(obj, type) and name in _methods().get(obj, ()):
        return getattr(obj, name)
    raise ValueError(
        'Checkpoint refused: expected it to ask for a statistics method of '
        'HistoryBuffer or an annealing function, got '
        f'getattr({obj!r}, {name!r}), which no checkpoint of MMEngine does. '
        f'{_ADVICE}'
    )


class _ArrayName:
    """What ``numpy.ndarray`` means in a checkpoint: a name, nothing to call.

    What is allowed is called with the file's own arguments, and an ndarray
    of objects over a buffer of bytes reads arbitrary memory.
    """

    def __new__(cls, *args):
        raise ValueError(
            'Checkpoint refused: expected arrays as NumPy pickles them, got a '
            'call of numpy.ndarray, which no checkpoint of MMEngine makes. '
            f'{_ADVICE}'
        )


def multiarray() -> ModuleType:
    """NumPy's module of arrays, which pickles name."""
    import numpy as np

    # NumPy 1.26 has a numpy._core too, but no more in it than names.
    new = int(np.__version__.split('.')[0]) >= 2
    return import_module('numpy._core.multiarray' if new else 'numpy.core.multiarray')


def _empty_array(*args) -> Any:
    """The array that a pickle begins with and then fills, see NumPy's
    ``_reconstruct``; the arguments are always these.
    """
    import numpy as np

    return multiarray()._reconstruct(np.ndarray, (0,), b'b')


@lru_cache(None)
def _saved_by_mmengine() -> Dict[str, Any]:
    """What its checkpoints name beside tensors, and what is taken for it."""
    import numpy as np

    classes: List[type] = [*_methods(), np.dtype]
    classes += {type(np.dtype(code)) for code in '?bhilqBHILQefd'}
    allowed: Dict[str, Any] = {f'{c.__module__}.{c.__qualname__}': c for c in classes}
    for core in ('numpy._core', 'numpy.core'):
        allowed[f'{core}.multiarray._reconstruct'] = _empty_array
        allowed[f'{core}.multiarray.scalar'] = multiarray().scalar
    allowed['numpy.ndarray'] = _ArrayName
    allowed['builtins.getattr'] = _method_in_checkpoint
    return allowed


class _Unpickler(pickle._Unpickler):
    """Of PyTorch < 2.6, whose own one cannot be told what else to allow."""

    def find_class(self, module: str, name: str) -> Any:
        from torch._weights_only_unpickler import _get_allowed_globals

        from ..predictions import latin1

        # As Python 2, whose protocol PyTorch writes, called it
        module, name = NAME_MAPPING.get(
            (module, name), (IMPORT_MAPPING.get(module, module), name)
        )
        allowed = {
            **_get_allowed_globals(),
            # Later versions allow these on their own.
            'collections.Counter': Counter,
            '_codecs.encode': latin1,
            **_saved_by_mmengine(),
        }
        if f'{module}.{name}' not in allowed:
            raise pickle.UnpicklingError(
                'Weights only load failed: expected tensors, arrays and the '
                f'state of MMEngine, got {module}.{name}. {_ADVICE}'
            )
        return allowed[f'{module}.{name}']


_PICKLE_MODULE = SimpleNamespace(
    __name__=__name__,
    Unpickler=_Unpickler,
    load=lambda file, **kwargs: _Unpickler(file, **kwargs).load(),
)


# Loading


@lru_cache(None)
def _pytorch_knows() -> bool:
    """Tell PyTorch what to allow, once, where it can be told."""
    import numpy as np
    import torch

    if torch.__version__ < (2, 6):  # type: ignore[operator]  # it compares both
        return False
    torch.serialization.add_safe_globals(
        [
            *((obj, name) for name, obj in _saved_by_mmengine().items()),
            # Allows an array to be filled, under a name that no file can spell.
            (np.ndarray, 'numpy\nndarray'),
        ]
    )
    return True


def load(file: Any, map_location: Any = None, **kwargs) -> Any:
    """:func:`torch.load` of data only, whatever else it is asked for.

    Args:
        file (str or file): What to load.
        map_location (optional): Same as of :func:`torch.load`.
        kwargs: Others of :func:`torch.load`.

    Returns:
        Any: What is in the file.

    Raises:
        pickle.UnpicklingError: If there is something in it that MMEngine and
            PyTorch do not save.
        ValueError: If what they save is used for something else.
        RuntimeError: If another package has made :func:`torch.load` run code
            nevertheless.
    """
    import torch

    if torch.load not in _sound:
        if _runs_code(lambda: _call(torch.load, io.BytesIO(_canary()))):
            raise _running_code(torch.load)
        _sound.append(torch.load)
    return _call(torch.load, file, map_location, **kwargs)


def _call(torch_load, file, map_location=None, **kwargs):
    kwargs['weights_only'] = knows = _pytorch_knows()
    kwargs['pickle_module'] = None if knows else _PICKLE_MODULE
    return torch_load(file, map_location, **kwargs)


def load_url(
    url: str,
    model_dir: Optional[str] = None,
    map_location: Any = None,
    progress: bool = True,
    **kwargs,
) -> Any:
    """:func:`torch.hub.load_state_dict_from_url` of data only.

    Args:
        url (str): What to load; a ``file:`` URL is read where it is.
        model_dir (str, optional): Where to keep the file. Defaults to
            PyTorch's own folder.
        map_location (optional): Same as of :func:`torch.load`.
        progress (bool): Whether to show a bar. Defaults to True.
        kwargs: Others of :func:`load`.

    Returns:
        Any: What is in the file.
    """
    import torch

    parts = urlparse(url)
    if parts.scheme == 'file':
        return load(url2pathname(parts.path), map_location, **kwargs)
    folder = Path(model_dir or Path(torch.hub.get_dir(), 'checkpoints'))
    path = folder / Path(parts.path).name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        sys.stderr.write(f'Downloading: "{url}" to {path}\n')
        torch.hub.download_url_to_file(url, str(path), progress=progress)
    return load(path, map_location, **kwargs)


class _LoadingData(ModuleType):
    """``torch`` for the modules that load checkpoints."""

    load = staticmethod(load)

    def __getattr__(self, name: str) -> Any:
        import torch

        return getattr(torch, name)


_TORCH = _LoadingData('torch')


# Whether it holds

_heard = local()
_sound: list = []  # what was tried: torch.load, and loaders with that


def _sing() -> None:
    """What the canary calls, and all that happens."""
    _heard.song = True


class _Canary:
    def __reduce__(self):
        return _sing, ()


@lru_cache(None)
def _canary() -> bytes:
    """A checkpoint that calls :func:`_sing` where code is run."""
    import torch

    file = io.BytesIO()
    torch.save(dict(state_dict=_Canary()), file)
    return file.getvalue()


def _runs_code(load_canary: Callable[[], Any]) -> bool:
    _heard.song = False
    try:
        load_canary()
    except Exception:  # refused, or a loader of something else
        pass
    heard, _heard.song = _heard.song, False
    return heard


@contextmanager
def _canary_file() -> Iterator[str]:
    """The path of the canary: in memory, or where there is no such path, in a
    folder that lasts as long.
    """
    if hasattr(os, 'memfd_create') and os.path.isdir('/proc/self/fd'):
        file = os.memfd_create('canary')
        try:
            os.write(file, _canary())
            yield f'/proc/self/fd/{file}'
        finally:
            os.close(file)
    else:
        with TemporaryDirectory() as folder:
            path = Path(folder, 'canary.pth')
            path.write_bytes(_canary())
            yield str(path)


def _try_loader(loader: Callable, filename: str) -> None:
    """Refuse a loader of MMEngine that runs the code in a checkpoint."""
    import torch
    from mmengine.dist import get_world_size

    is_url = '://' in filename
    tried = loader, torch.load
    # Loaders of URLs wait for the other processes, which an error would hang.
    if tried in _sound or (is_url and get_world_size() > 1):
        return
    with _canary_file() as path:
        name = Path(path).as_uri() if is_url else path
        if _runs_code(lambda: loader(name, 'cpu')):
            raise _running_code(loader)
    _sound.append(tried)


def _running_code(loader: Callable) -> RuntimeError:
    return RuntimeError(
        'Checkpoint refused: expected a loader that takes data only, got '
        f'{loader.__module__}.{getattr(loader, "__qualname__", loader)}, which '
        'runs the code in a checkpoint. Load before the package that brings it '
        'is imported, or report it at aia_mmaction.'
    )


# The repair


def _runs_code_or_refuses_data() -> bool:
    """Whether MMEngine does so with a file; and with a URL, where not."""
    import torch
    from mmengine.logging import HistoryBuffer
    from mmengine.runner.checkpoint import load_from_http, load_from_local

    with _canary_file() as path, TemporaryDirectory() as folder, catch_warnings():
        simplefilter('ignore')  # of PyTorch, that it runs code
        if _runs_code(lambda: load_from_local(path, 'cpu')):
            return True
        state = Path(folder, 'state.pth')
        torch.save(HistoryBuffer(), state)
        try:
            load_from_local(str(state), 'cpu')
        except pickle.UnpicklingError:
            return True
        url = Path(path).as_uri()
        return _runs_code(lambda: load_from_http(url, 'cpu', folder, progress=False))


def _guard() -> None:
    """Put in place what loads data only; again where another library has
    replaced it.
    """
    for name in _LOADING_MODULES:
        if name in sys.modules:
            setattr(sys.modules[name], 'torch', _TORCH)  # noqa: B010
    setattr(sys.modules['mmengine.runner.checkpoint'], 'load_url', load_url)  # noqa: B010


def _load_weights_only() -> None:
    from mmengine.runner.checkpoint import CheckpointLoader

    _pytorch_knows()
    load_checkpoint = CheckpointLoader.load_checkpoint.__func__

    @wraps(load_checkpoint)
    def repaired(cls, filename, map_location=None, logger='current'):
        if not hasattr(cls, '_get_checkpoint_loader'):
            raise RuntimeError(
                'Checkpoint refused: expected to be told by what MMEngine loads '
                'it, got a CheckpointLoader without _get_checkpoint_loader, so '
                'whether that runs code cannot be tried. Install mmengine 0.10.7, '
                'or load files that you trust with '
                'AIA_MMACTION_DISABLE_REPAIRS=weights_only.'
            )
        _guard()
        _try_loader(cls._get_checkpoint_loader(filename), filename)
        return load_checkpoint(cls, filename, map_location, logger)

    CheckpointLoader.load_checkpoint = classmethod(repaired)
    _guard()


def _tool(name: str, old: str) -> Edit:
    """A tool that loads with PyTorch alone, in a process of its own."""
    return Edit(
        symptom=f'{name} of MMAction2 runs the code in a checkpoint before torch '
        '2.6, and from then on refuses what MMEngine saves',
        package='mmaction',
        path=f'.mim/tools/{name}',
        old=f'    checkpoint = torch.load({old})\n',
        new='    try:  # by aia_mmaction.doctor --fix, changed back by --undo\n'
        '        from aia_mmaction.repairs.weights_only import load\n'
        '    except ImportError:\n'
        '        from torch import load\n'
        f'    checkpoint = load({old})\n',
        for_tools=True,
    )


REPAIR = Repair(
    symptom='torch >= 2.6 refuses the checkpoints that MMEngine writes, so '
    'testing, resuming and load_from fail; older versions, MMEngine 0.11, and '
    'all of them from a URL, run whatever code is in a checkpoint',
    affected='torch 2.1.0 and later, mmengine 0.10.4 to 0.11.0rc3',
    upstream='open-mmlab/mmengine, issue 1655',
    is_broken=_runs_code_or_refuses_data,
    mend=_load_weights_only,
    on_disk=(
        _tool('deployment/publish_model.py', "in_file, map_location='cpu'"),
        _tool('convert/reparameterize_model.py', 'args.checkpoint_path'),
    ),
)
