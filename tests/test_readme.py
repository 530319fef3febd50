"""The README names what there is, and what it names exists."""
import re

import pytest

from aia_mmaction.compat import REPAIRS

from .conftest import REPO

README = (REPO / 'README.md').read_text()


def test_every_repair_is_listed():
    listed = re.findall(r'^\| `(\w+)` \|', README, flags=re.MULTILINE)
    assert [r.name for r in REPAIRS
            ] == [n for n in listed if n in {r.name
                                             for r in REPAIRS}]


def test_every_config_is_listed():
    for path in (REPO / 'configs').glob('*.py'):
        assert f'`{path.name}`' in README, path.name


NAMED_FILES = re.findall(
    r'(?<![\w/])((?:configs|tools|tests|docs|requirements)/[\w./-]+\w)',
    README)


@pytest.mark.parametrize('path', sorted(set(NAMED_FILES)))
def test_named_files_exist(path):
    assert (REPO / path).exists()
