"""Install the project's wheel beside other versions, and test it there.

    python tests/versions.py            # every row that is not up to date
    python tests/versions.py ROW ROW    # these rows, whatever is known
    python tests/versions.py --table    # only write the table

A row is an environment: made, used and deleted before the next, since PyTorch
is several gigabytes. What it found is kept in ``requirements/versions``, with
all that was installed, and is up to date as long as the package is the same.
"""

import argparse
import datetime
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Optional, Sequence

REPO = Path(__file__).resolve().parent.parent
RESULTS = REPO / 'requirements' / 'versions'
WORK = REPO / '.versions'

# Layers and paths against the golden numbers, insertion into every network,
# training, resuming and testing by commands, exports, hostile checkpoints
CORE = [
    'tests/layers',
    'tests/ops',
    'tests/backbones',
    'tests/necks',
    'tests/repairs',
    'tests/recognizers/test_aia_recognizer2d.py',
    'tests/test_commands.py::TestMainJob',
    'tests/test_commands.py::test_training_run',
    'tests/test_commands.py::test_amp',
    'tests/test_distributed.py::test_fully_shard',
    'tests/test_kill_and_resume.py',
    'tests/tools/test_export.py',
]
WITHOUT = [
    '--ignore=tests/ops/test_triton.py',
    '--deselect=tests/test_kill_and_resume.py::test_killed',
    '-m',
    'not image_libraries',
]


class Row(NamedTuple):
    """An environment; empty stands for the newest."""

    python: str
    torch: str
    mmengine: str
    mmaction2: str
    mmcv_lite: str
    numpy: str

    @property
    def name(self) -> str:
        """For commands and files."""
        return f'py{self.python}-torch{self.torch or "-newest"}-mmengine{self.mmengine}'

    @property
    def packages(self) -> Iterator[str]:
        """What pip is told to install."""
        for name, version in self._asdict().items():
            if name == 'numpy':
                yield name + version
            elif name != 'python':
                name = name.replace('_', '-')
                yield f'{name}=={version}' if version else name

    @property
    def file(self) -> Path:
        """What the row found."""
        return RESULTS / f'{self.name}.txt'


ROWS = [
    Row('3.8', '2.1.0', '0.10.4', '1.2.0', '2.0.1', '<1.25'),
    Row('3.8', '2.4.1', '0.10.7', '1.2.0', '2.1.0', '<1.25'),
    Row('3.10', '2.5.1', '0.10.7', '1.2.0', '2.1.0', '==1.26.*'),
    Row('3.11', '2.6.0', '0.10.7', '1.2.0', '2.1.0', '==2.*'),
    Row('3.12', '2.7.1', '0.11.0rc3', '1.2.0', '2.1.0', '==1.26.*'),
    Row('3.9', '2.8.0', '0.10.7', '1.2.0', '2.1.0', '==1.26.*'),
    Row('3.12', '2.9.1', '0.10.7', '1.2.0', '2.1.0', '==2.*'),
    Row('3.11', '2.13.0', '0.10.7', '1.2.0', '2.1.0', '==2.4.*'),
    Row('3.11', '2.13.0', '0.11.0rc3', '1.2.0', '2.1.0', '==2.4.*'),
    Row('3.13', '', '0.11.0rc3', '1.2.0', '2.1.0', ''),
]


def interpreter(version: str) -> Optional[str]:
    """A Python of this version: of the PATH, or of pyenv."""
    root = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv'))
    installed = sorted(root.glob(f'versions/{version}.*/bin/python'))
    for python in [shutil.which(f'python{version}'), *reversed(installed)]:
        if (
            python
            and subprocess.run([python, '-V'], capture_output=True).returncode == 0
        ):
            return str(python)
    return None


def fingerprint() -> str:
    """Of the package's source."""
    digest = hashlib.sha256()
    for path in sorted((REPO / 'aia_mmaction').rglob('*.py')):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def is_up_to_date(row: Row) -> bool:
    """Whether the row was run with this package, and nothing failed."""
    text = row.file.read_text() if row.file.exists() else ''
    return f'source {fingerprint()}' in text and 'failed' not in text


def call(*command, log: Path, **kwargs) -> str:
    """Run a command, add what it prints to the log, and return it."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **kwargs,
    )
    with log.open('a') as file:
        file.write(done.stdout)
    if done.returncode and 'pytest' not in command:
        lines = done.stdout.splitlines() or [f'exit status {done.returncode}']
        raise RuntimeError(([line for line in lines if 'ERROR' in line] or lines)[-1])
    return done.stdout


def run(row: Row) -> None:
    """Make the row's environment, test in it, and write what was found."""
    shutil.rmtree(WORK / row.name, ignore_errors=True)
    WORK.mkdir(exist_ok=True)
    log = WORK / f'{row.name}.log'
    log.write_text('')
    head = f'# {datetime.date.today()}, Python {row.python}, source {fingerprint()}\n'
    try:
        text = _test(row, WORK / row.name, log)
    except RuntimeError as error:
        text = f'# cannot be installed: {error}\n'
    finally:
        shutil.rmtree(WORK / row.name, ignore_errors=True)
    RESULTS.mkdir(exist_ok=True)
    row.file.write_text(head + text)
    print(f'{row.name}: {text.splitlines()[0]}', flush=True)


def _test(row: Row, folder: Path, log: Path) -> str:
    python = interpreter(row.python)
    if python is None:
        raise RuntimeError(f'no Python {row.python} on this machine')
    source = folder / 'source'
    call('git', 'clone', '-q', REPO, source, log=log)
    for name in ('aia_mmaction', 'configs', 'tools', 'tests', 'setup.py'):
        call('cp', '-r', REPO / name, source, log=log)
    pip = (folder / 'venv' / 'bin' / 'python', '-m', 'pip')
    call(python, '-m', 'venv', folder / 'venv', log=log)
    call(*pip, 'install', '-q', 'pip<25', log=log)
    call(*pip, 'wheel', '-q', '--no-deps', '-w', folder, source, log=log)
    # What is tested is the wheel.
    shutil.rmtree(source / 'aia_mmaction')
    (wheel,) = folder.glob('*.whl')
    tests = ['pytest', 'pytest-xdist', 'hypothesis']
    install(row, pip, f'{wheel}[mim,cpu]', *tests, log=log)
    try:
        call(*pip, 'install', *row.packages, 'onnx', 'onnxruntime', log=log)
    except RuntimeError as error:
        print(f'{row.name}: without ONNX, {error}')
    out = call(
        *(pip[0], '-m', 'pytest', '-q', '-n', 'auto', '--dist', 'worksteal'),
        *(*CORE, *WITHOUT),
        cwd=source,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        log=log,
    )
    failed = sorted(set(re.findall(r'^(?:FAILED|ERROR) \S+', out, flags=re.MULTILINE)))
    summary = re.findall(r'^=* ?(.*(?:passed|failed|error).*) in [\d.]+s', out, re.M)
    result = summary[-1] if summary else f'pytest stopped: {out.splitlines()[-1]}'
    result = re.sub(r', \d+ warnings?', '', result)
    installed = call(*pip, 'freeze', '--all', '--exclude', 'aia_mmaction', log=log)
    return ''.join(f'# {line}\n' for line in [result, *failed]) + installed


def without_repository() -> Dict[str, str]:
    """Environment variables that do not lead to the repository's package."""
    return {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}


def install(row: Row, pip: Sequence[Any], *requirements: str, log: Path) -> None:
    """Install a row's packages and more with a pip, and mend what lies on disk."""
    call(*pip, 'install', *row.packages, *requirements, log=log)
    # Not in the repository, whose package it would take for the installed one
    doctor = (pip[0], '-m', 'aia_mmaction.doctor', '--fix')
    call(*doctor, cwd=log.parent, env=without_repository(), log=log)


def table() -> str:
    """Markdown of what all rows found."""
    lines = ['| Python | torch | mmengine | mmaction2 | mmcv-lite | NumPy | | on |']
    lines.append('|---' * 8 + '|')
    for row in ROWS:
        if not row.file.exists():
            lines.append('| ' + ' | '.join([*row, 'not run', '']) + ' |')
            continue
        head, result, *rest = row.file.read_text().splitlines()
        found = dict(re.findall(r'^(\S+)==(\S+)$', '\n'.join(rest), re.M))
        versions = [found.get(n.replace('_', '-'), v) for n, v in row._asdict().items()]
        cells = [row.python, *versions[1:], result[2:], head[2:12]]
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def write_table() -> None:
    """Put the table into docs/install.md, between its marks."""
    readme = REPO / 'docs' / 'install.md'
    before, rest = readme.read_text().split('<!-- make test-versions -->\n')
    after = rest.split('<!-- end -->')[1]
    mark = '<!-- make test-versions -->\n'
    readme.write_text(f'{before}{mark}{table()}\n<!-- end -->{after}')


def main() -> int:
    """Run rows; return 1 if a test failed in one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [row.name for row in ROWS]
    parser.add_argument('rows', nargs='*', metavar='ROW', help=', '.join(names))
    parser.add_argument('--table', action='store_true')
    args = parser.parse_args()
    unknown = set(args.rows) - set(names)
    if unknown:
        parser.error(f'expected rows out of {", ".join(names)}, got {unknown}.')
    for row in ROWS:
        wanted = row.name in args.rows if args.rows else not is_up_to_date(row)
        if wanted and not args.table:
            run(row)
            write_table()
    write_table()
    found = {row.name: row.file.read_text() for row in ROWS if row.file.exists()}
    failed = [
        name for name, text in found.items() if re.search('^# .*failed', text, re.M)
    ]
    print(f'failed: {", ".join(failed) or "none"}, not run: {len(ROWS) - len(found)}')
    return bool(failed)


if __name__ == '__main__':
    sys.exit(main())
