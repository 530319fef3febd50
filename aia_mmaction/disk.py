"""Changes of installed files that ``doctor --fix`` makes and ``--undo`` takes
back.
"""

import importlib.util
import shutil
from pathlib import Path
from typing import NamedTuple

from .files import draft_of


class Edit(NamedTuple):
    """A piece of text that is replaced by another."""

    package: str
    path: str  # below the package
    old: str
    new: str

    def file(self) -> Path:
        """The installed file."""
        root = Path(importlib.util.find_spec(self.package).origin).parent
        return root / self.path

    def is_missing(self) -> bool:
        """Whether there is what is to be replaced."""
        return (
            self.file().exists()
            and not self.is_made()
            and self._text().count(self.old) == 1
        )

    def is_made(self) -> bool:
        """Whether the replacement is there."""
        return self.file().exists() and self.new in self._text()

    def make(self) -> None:
        """Write the replacement."""
        self._rewrite(self.old, self.new)

    def undo(self) -> None:
        """Write back what was there before."""
        self._rewrite(self.new, self.old)

    def _text(self) -> str:
        return self.file().read_text(encoding='utf-8')

    def _rewrite(self, old: str, new: str) -> None:
        text = self._text().replace(old, new)
        with draft_of(self.file()) as draft:
            draft.write_text(text, encoding='utf-8')
            shutil.copymode(self.file(), draft)


# A config is read before it imports anything, so for the tools that train and
# test, the package that `_base_ = 'aia_mmaction::...'` names must be in
# MMEngine's list on disk.
CONFIG_PACKAGE = Edit(
    'mmengine',
    'config/utils.py',
    'MODULE2PACKAGE = {\n',
    'MODULE2PACKAGE = {\n'
    "    'aia_mmaction': 'aia_mmaction',  # by aia_mmaction.doctor --fix, "
    'removed by --undo\n',
)

_BSN = 'configs/localization/bsn/bsn_{}.py'
# MMAction2 1.1's index has a list where MMEngine expects the name of a config,
# and so `_base_ = 'mmaction::...'` fails for any config. 1.2 has the last one.
CONFIG_INDEX = Edit(
    'mmaction',
    '.mim/configs/localization/bsn/metafile.yml',
    '    Config:\n'
    + ''.join(
        f'      - {_BSN.format(name)}\n'
        for name in (
            'tem_1xb16-400x100-20e_activitynet-feature',
            'pgm_400x100_activitynet-feature',
            'pem_1xb16-400x100-20e_activitynet-feature',
        )
    ),
    '    Config: '
    + _BSN.format('pem_1xb16-400x100-20e_activitynet-feature')
    + '  # by aia_mmaction.doctor --fix, changed back by --undo\n',
)

EDITS = (CONFIG_PACKAGE, CONFIG_INDEX)
