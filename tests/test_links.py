"""Links of the pages lead somewhere."""

import re
from urllib.parse import urlparse

import pytest

from aia_mmaction.version import __version__

from .conftest import REPO

PAGES = sorted(
    path for pattern in ('*.md', 'docs/**/*.md') for path in REPO.glob(pattern)
)


def links(page):
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL)
    return re.findall(r'\]\(([^)\s]+)\)', text)


def anchors(page):
    """As GitHub makes them of headings."""
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL)
    return {
        re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
        for heading in re.findall(r'^#+ +(.*)$', text, flags=re.MULTILINE)
    }


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links(page):
    for link in links(page):
        if urlparse(link).scheme:
            assert re.fullmatch(r'https://[\w.-]+\.[a-z]+(/[\w./~#?=&%+-]*)?', link), (
                link
            )
            continue
        path, _, anchor = link.partition('#')
        target = page.parent / path if path else page
        assert target.exists(), f'{page.name}: {link}'
        if anchor:
            assert anchor in anchors(target), f'{page.name}: {link}'


def test_the_version_is_the_same_everywhere():
    assert f'version: {__version__}\n' in (REPO / 'CITATION.cff').read_text()
    changelog = (REPO / 'CHANGELOG.md').read_text()
    assert re.search(r'^## ([\d.]+)', changelog, re.MULTILINE)[1] == __version__
