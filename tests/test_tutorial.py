"""docs/tutorial.ipynb runs from end to end."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

from .conftest import REPO

NOTEBOOK = REPO / 'docs/tutorial.ipynb'


def test_what_it_shows_is_of_no_machine():
    text = NOTEBOOK.read_text()
    assert not re.search(r'/(root|home|work|tmp)/|stderr', text)
    assert len(text) < 800_000  # is loaded by whoever opens the page


@pytest.mark.slow
def test_every_cell_runs(tmp_path, monkeypatch):
    monkeypatch.setenv('TUTORIAL_QUICK', '1')
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # A folder that has what a clone has, and no results of another run
    for name in ('configs', 'tools'):
        (tmp_path / name).symlink_to(REPO / name)
    client = NotebookClient(
        notebook, timeout=300, resources=dict(metadata=dict(path=str(tmp_path)))
    )
    client.execute()
    printed = ''.join(
        output.text
        for cell in notebook.cells
        for output in cell.get('outputs', ())
        if output.output_type == 'stream'
    )
    assert 'plain: ' in printed and 'cinst: ' in printed and 'backwards.avi' in printed
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get('outputs', ())
        if 'image/png' in output.get('data', ())
    ]
    assert len(pictures) == 3  # frames, spreads, gates
    work_dir = tmp_path / 'work_dirs/tutorial_quick/cinst'
    drawn = sorted(path.name for path in work_dir.glob('*/vis_data/vis_image/*'))
    assert drawn == ['gates_0_1.png', 'gates_1_1.png']
