"""The package that mmaction2 1.2.0 imports and does not ship.

``mmaction/models/localizers/__init__.py`` imports ``.drn.drn``, but wheel and
sdist lack that folder. An empty stand-in is enough: only the DRN localizer
itself is lost. In memory it is there from the import of this package on; on
disk also before, which a config of MMAction2 that names an AIA type and
imports nothing needs.
"""

import sys
from types import ModuleType

from .on_disk import NewFiles
from .repair import Repair

_MARK = (
    '# Stands in for what the mmaction2 wheel lacks. Written by `python '
    '-m aia_mmaction.doctor --fix`,\n# removed by `--undo`.\n'
)
FOLDER = NewFiles(
    symptom='mmaction2 lacks mmaction/models/localizers/drn. Configs that '
    'import aia_mmaction work, others cannot name its types, and '
    'MMAction2 alone cannot import its models',
    package='mmaction',
    path='models/localizers/drn',
    files={
        '__init__.py': _MARK,
        'drn.py': _MARK + '\n\nclass DRN:\n    """Not in this installation."""\n',
    },
    asked_for='.drn',
)


def _stub_in_memory() -> None:
    name = 'mmaction.models.localizers.drn'
    package, module = ModuleType(name), ModuleType(f'{name}.drn')
    package.__path__ = []
    vars(module)['DRN'] = type('DRN', (), {'__module__': f'{name}.drn'})
    sys.modules.update({name: package, f'{name}.drn': module})


REPAIR = Repair(
    symptom='mmaction2 imports mmaction.models.localizers.drn, which its '
    'wheel does not contain, so `import mmaction.models` fails',
    affected='mmaction2 1.2.0',
    upstream='open-mmlab/mmaction2, issue 2714',
    is_broken=FOLDER.is_missing,
    mend=_stub_in_memory,
    on_disk=(FOLDER,),
    comes_first=True,  # others import mmaction.models
)
