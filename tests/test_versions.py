"""What `make test-versions` found is what the project says of itself."""

import re

from aia_mmaction.repairs.requirements import TESTED

from . import versions
from .conftest import REPO


def test_tested_versions_are_those_that_ran():
    ran = {name: set() for name in TESTED}
    for row in versions.ROWS:
        if not row.file.exists():
            continue
        head, result, *frozen = row.file.read_text().splitlines()
        assert re.fullmatch(r'# \d+ passed(, \d+ skipped)?', result), row.name
        ran['Python'].add(row.python)
        for line in frozen:
            name, _, version = line.partition('==')
            ran.get(name, set()).add('.'.join(version.split('.')[:2]))
    assert ran == {name: set(values) for name, values in TESTED.items()}


def test_the_docs_have_the_table():
    assert versions.table() in (REPO / 'docs' / 'install.md').read_text()
