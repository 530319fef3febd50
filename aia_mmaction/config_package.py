"""Make this package known to MMEngine's config inheritance.

``_base_ = 'package::folder/config.py'`` works for the packages that MMEngine
lists, which are OpenMMLab's own. A config is read before it imports anything,
so for the training and test tools the name has to be in the list on disk.
"""
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

_START = 'MODULE2PACKAGE = {\n'
_ENTRY = (
    "    'aia_mmaction': 'aia_mmaction',  # by aia_mmaction.doctor --fix, "
    'removed by --undo\n')


def file() -> Path:
    """The file of MMEngine that holds the list."""
    root = Path(importlib.util.find_spec('mmengine').origin).parent
    return root / 'config' / 'utils.py'


def is_missing() -> bool:
    """Whether the list on disk lacks this package."""
    text = file().read_text(encoding='utf-8')
    return "'aia_mmaction'" not in text and text.count(_START) == 1


def is_written() -> bool:
    """Whether the entry on disk is ours."""
    return _ENTRY in file().read_text(encoding='utf-8')


def register_in_memory() -> None:
    from mmengine.config.utils import MODULE2PACKAGE
    MODULE2PACKAGE['aia_mmaction'] = 'aia_mmaction'


def is_unknown() -> bool:
    """Whether the list in memory lacks this package."""
    from mmengine.config.utils import MODULE2PACKAGE
    return 'aia_mmaction' not in MODULE2PACKAGE


def write_entry() -> None:
    """Put the name into the list on disk."""
    _rewrite(_START, _START + _ENTRY)


def remove_entry() -> None:
    _rewrite(_ENTRY, '')


def _rewrite(old: str, new: str) -> None:
    """Replace a part of the file, as a whole or not at all."""
    target = file()
    text = target.read_text(encoding='utf-8').replace(old, new)
    handle, draft = tempfile.mkstemp(prefix='utils.', dir=target.parent)
    try:
        with os.fdopen(handle, 'w', encoding='utf-8') as f:
            f.write(text)
        shutil.copymode(target, draft)
        os.replace(draft, target)
    except BaseException:
        os.unlink(draft)
        raise
