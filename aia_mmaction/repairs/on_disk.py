"""Changes of installed files that ``doctor --fix`` makes and ``--undo`` takes
back.
"""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Dict, NamedTuple

from ..utils.files import draft_of


def _installed(package: str, path: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f'{package} is not installed')
    return Path(spec.origin).parent / path


class Edit(NamedTuple):
    """A piece of text that is replaced by another."""

    symptom: str  # what fails as long as it is not made
    package: str
    path: str  # below the package
    old: str
    new: str
    for_tools: bool = False  # whether only single tools need it

    def target(self) -> Path:
        """The installed file."""
        return _installed(self.package, self.path)

    def is_missing(self) -> bool:
        """Whether there is what is to be replaced."""
        return (
            self.target().exists()
            and not self.is_made()
            and self._text().count(self.old) == 1
        )

    def is_made(self) -> bool:
        """Whether the replacement is there."""
        return self.target().exists() and self.new in self._text()

    def make(self) -> None:
        """Write the replacement."""
        self._rewrite(self.old, self.new)

    def undo(self) -> None:
        """Write back what was there before."""
        self._rewrite(self.new, self.old)

    def _text(self) -> str:
        return self.target().read_text(encoding='utf-8')

    def _rewrite(self, old: str, new: str) -> None:
        text = self._text().replace(old, new)
        with draft_of(self.target()) as draft:
            draft.write_text(text, encoding='utf-8')
            shutil.copymode(self.target(), draft)


class NewFiles(NamedTuple):
    """A folder that another package expects and does not have."""

    symptom: str  # what fails as long as it is not there
    package: str
    path: str  # below the package
    files: Dict[str, str]  # what to write into it
    asked_for: str  # the name by which ``__init__.py`` beside it imports it
    for_tools: bool = False  # whether only single tools need it

    def target(self) -> Path:
        """Where the folder belongs, whether it is there or not."""
        return _installed(self.package, self.path)

    def is_missing(self) -> bool:
        """Whether it is imported and not there."""
        imports = (self.target().parent / '__init__.py').read_text(encoding='utf-8')
        return self.asked_for in imports and not all(
            (self.target() / name).exists() for name in self.files
        )

    def is_made(self) -> bool:
        """Whether the folder is ours, to the letter."""
        return all(
            (self.target() / name).is_file()
            and (self.target() / name).read_text(encoding='utf-8') == text
            for name, text in self.files.items()
        )

    def make(self) -> None:
        """Write the folder whole or not at all."""
        folder = self.target()
        draft = Path(tempfile.mkdtemp(prefix=f'{folder.name}.', dir=folder.parent))
        try:
            for name, text in self.files.items():
                (draft / name).write_text(text, encoding='utf-8')
            draft.chmod(0o755)
            os.rename(draft, folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise

    def undo(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.target())
