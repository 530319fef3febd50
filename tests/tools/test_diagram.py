import numpy as np
import pytest
from PIL import Image

from ..conftest import REPO, call


@pytest.mark.slow
@pytest.mark.parametrize(
    'what,name', [('modules', 'cinst_stinc.png'), ('architecture', 'architecture.png')]
)
def test_pictures_of_the_docs(what, name, tmp_path):
    call(REPO / 'tools/diagram.py', what, name, cwd=tmp_path)
    drawn = Image.open(tmp_path / name).convert('RGB')
    shown = Image.open(REPO / 'docs/images' / name).convert('RGB')
    assert drawn.size == shown.size
    # Another version of FreeType sets letters a little differently.
    difference = np.asarray(drawn, int) - np.asarray(shown, int)
    assert (np.abs(difference) > 60).mean() < 0.02
