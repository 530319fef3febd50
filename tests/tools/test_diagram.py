import sys

import numpy as np
import pytest
from PIL import Image

from ..conftest import REPO, run


@pytest.mark.slow
def test_diagram_of_the_readme(tmp_path):
    run(sys.executable, REPO / 'tools/diagram.py', 'cinst_stinc.png', cwd=tmp_path)
    drawn = Image.open(tmp_path / 'cinst_stinc.png').convert('RGB')
    shown = Image.open(REPO / 'docs/images/cinst_stinc.png').convert('RGB')
    assert drawn.size == shown.size
    # Another version of FreeType sets letters a little differently.
    difference = np.asarray(drawn, int) - np.asarray(shown, int)
    assert (np.abs(difference) > 60).mean() < 0.02
