"""The pages name what there is, and what they name exists."""

import re

import pytest

from aia_mmaction.repairs import all_repairs

from .conftest import REPO

README = (REPO / 'README.md').read_text()
REPAIRS = (REPO / 'docs' / 'repairs.md').read_text()
PAGES = [README, *(p.read_text() for p in (REPO / 'docs').glob('*.md'))]


def test_every_repair_is_listed():
    listed = re.findall(r'^\| `(\w+)` \|', REPAIRS, flags=re.MULTILINE)
    names = {name for name, repair in all_repairs().items() if repair.mend}
    assert names <= set(listed)


def expand(pattern):
    """What a shell makes of ``{a,b}`` in a name."""
    match = re.search(r'{([^}]*)}', pattern)
    if not match:
        return [pattern]
    return [
        name
        for part in match[1].split(',')
        for name in expand(pattern[: match.start()] + part + pattern[match.end() :])
    ]


def test_every_config_is_listed():
    table = README[README.index('| config |') :]
    listed = [
        name
        for row in table[: table.index('\n\n')].splitlines()[2:]
        for pattern in re.findall(r'`([^`]+\.py)`', row)
        for name in expand(pattern)
    ]
    assert sorted(listed) == sorted(p.name for p in (REPO / 'configs').glob('*.py'))


NAMED_FILES = re.findall(
    r'(?<![\w/])((?:configs|tools|tests|docs|requirements)/[\w./-]+\w)',
    '\n'.join(PAGES),
)


@pytest.mark.parametrize('path', sorted(set(NAMED_FILES)))
def test_named_files_exist(path):
    assert (REPO / path).exists()
