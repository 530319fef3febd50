"""README_zh-CN.md has the tables of README.md, with its numbers.

``UPDATE_README=1`` writes them.
"""

import os
import re

import pytest
import yaml

from .conftest import REPO

CHINESE = REPO / 'README_zh-CN.md'
NUMBER = re.compile(r'\d+(?:\.\d+)?')
TABLE = re.compile(r'(?:^\|.*\n)+', re.MULTILINE)
MARKED = re.compile(r'(<!-- table (\d) -->\n)(.*?)(<!-- end -->)', re.DOTALL)


@pytest.fixture(scope='module')
def cells():
    """Chinese by English, both with ``#`` for each number."""
    pairs = yaml.safe_load((REPO / 'docs/README_zh-CN.yml').read_text('utf-8'))
    return {NUMBER.sub('#', en): NUMBER.sub('#', zh) for en, zh in pairs.items()}


def in_chinese(cell, cells):
    bare = re.sub('`[^`]*`', '', cell)
    if not re.search('[A-Za-z]{2}', bare):
        return cell  # numbers and code
    numbers = NUMBER.findall(cell)
    text = cells.get(NUMBER.sub('#', cell))
    assert text is not None, f'{cell!r}: expected it in docs/README_zh-CN.yml'
    assert text.count('#') - cell.count('#') == len(numbers), cell
    links = re.findall(r'\]\([^)]*\)', cell)  # whose # is no number
    for number in numbers:
        text = re.sub(r'(?<!\.md)#', number, text, count=1)
    assert re.findall(r'\]\([^)]*\)', text) == links
    return text


def test_tables(cells):
    text = CHINESE.read_text('utf-8')
    english = TABLE.findall((REPO / 'README.md').read_text('utf-8'))
    made = {}
    for number, table in enumerate(english, 1):
        rows = [row.strip('|').split('|') for row in table.splitlines()]
        made[str(number)] = ''.join(
            f'| {" | ".join(in_chinese(cell.strip(), cells) for cell in row)} |\n'
            for row in rows
        )
    assert [number for _, number, _, _ in MARKED.findall(text)] == list(made)
    new = MARKED.sub(lambda m: m[1] + made[m[2]] + m[4], text)
    if os.environ.get('UPDATE_README'):
        CHINESE.write_text(new, 'utf-8')
    else:
        assert new == text, 'UPDATE_README=1 pytest tests/test_chinese_readme.py'


def test_same_commands_and_code():
    """Nothing but comments and prose is translated."""

    def code(name):
        text = (REPO / name).read_text('utf-8')
        blocks = re.findall(r'```\w+\n(.*?)```', text, re.DOTALL)
        return [
            re.sub(r'\s*#.*', '', line).rstrip()
            for block in blocks
            for line in block.splitlines()
        ]

    assert code('README_zh-CN.md') == code('README.md')
