"""The package that mmaction2 1.2.0 imports and does not ship.

``mmaction/models/localizers/__init__.py`` imports ``.drn.drn``, but wheel and
sdist lack that folder (open-mmlab/mmaction2, issue 2714), so ``import
mmaction.models`` fails. An empty stand-in is enough: only the DRN localizer
itself is lost. In memory it is there from the import of this package on; on
disk also before, which a config of MMAction2 that names an AIA type and
imports nothing needs.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType

_MARK = (
    '# Stands in for what the mmaction2 wheel lacks. Written by `python '
    '-m aia_mmaction.doctor --fix`,\n# removed by `--undo`.\n'
)
_FILES = {
    '__init__.py': _MARK,
    'drn.py': _MARK + '\n\nclass DRN:\n    """Not in this installation."""\n',
}


def folder() -> Path:
    """Where the package belongs, whether it is there or not."""
    root = Path(importlib.util.find_spec('mmaction').origin).parent
    return root / 'models' / 'localizers' / 'drn'


def is_missing() -> bool:
    """Whether mmaction2 imports the package and does not have it."""
    imports = (folder().parent / '__init__.py').read_text(encoding='utf-8')
    return '.drn' in imports and not (folder() / 'drn.py').exists()


def is_stub() -> bool:
    """Whether the package on disk is ours, to the letter."""
    return all(
        (folder() / name).is_file() and (folder() / name).read_text() == text
        for name, text in _FILES.items()
    )


def stub_in_memory() -> None:
    """Put empty modules where mmaction2 looks for the missing ones."""
    name = 'mmaction.models.localizers.drn'
    package, module = ModuleType(name), ModuleType(f'{name}.drn')
    package.__path__ = []
    module.DRN = type('DRN', (), {'__module__': f'{name}.drn'})
    sys.modules.update({name: package, f'{name}.drn': module})


def write_stub() -> None:
    """Write the stand-in beside the other localizers, whole or not at all."""
    target = folder()
    draft = Path(tempfile.mkdtemp(prefix='drn.', dir=target.parent))
    try:
        for name, text in _FILES.items():
            (draft / name).write_text(text)
        draft.chmod(0o755)
        os.rename(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def remove_stub() -> None:
    """Delete what :func:`write_stub` wrote."""
    shutil.rmtree(folder())
