"""Every tool says how it is called."""

import runpy
import sys

import pytest

from ..conftest import REPO

TOOLS = [
    path
    for path in sorted((REPO / 'tools').rglob('*.py'))
    if "__name__ == '__main__'" in path.read_text()
]


@pytest.mark.parametrize('tool', TOOLS, ids=lambda p: p.stem)
def test_help_has_an_example(tool, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [str(tool), '--help'])
    monkeypatch.syspath_prepend(str(tool.parent))
    with pytest.raises(SystemExit) as exit:
        runpy.run_path(str(tool), run_name='__main__')
    assert exit.value.code == 0
    printed = capsys.readouterr().out
    assert f'\n    python tools/{tool.relative_to(REPO / "tools")} ' in printed
