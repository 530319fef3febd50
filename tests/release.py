"""Is this commit fit to be released? Build it, and use what was built.

    python tests/release.py                # the oldest and the newest versions
    python tests/release.py --rows ROW     # another row of `make test-versions`

Builds sdist and wheel from the commit, has twine check them, and looks for the
version in the changelog. Then, for each row, in an environment of its own (of
several gigabytes, deleted afterwards) and in an empty directory: the wheel's
doctor, `mim search`, `mim download`, and the demo, with few videos.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

from versions import (
    REPO,
    ROWS,
    WORK,
    Row,
    call,
    install,
    interpreter,
    without_repository,
)

FOLDER = WORK / 'release'
LOG = FOLDER / 'log.txt'
CONFIG = 'tsm_r50_cinst_sthv2'
DEMO = ('--dataset-args', '--num-train', '16', '--num-test', '8')


def step(name: str) -> None:
    """Say what comes next."""
    print(f'- {name}', flush=True)


def build() -> Path:
    """Build sdist and wheel from the commit, and return the wheel."""
    changed = subprocess.check_output(
        ['git', 'status', '--porcelain'], cwd=REPO, text=True
    )
    if changed:
        raise RuntimeError(f'expected a commit without changes, got\n{changed}')
    source, dist = FOLDER / 'source', FOLDER / 'dist'
    call('git', 'clone', '-q', REPO, source, log=LOG)
    python = FOLDER / 'tools' / 'bin' / 'python'
    call(sys.executable, '-m', 'venv', FOLDER / 'tools', log=LOG)
    call(python, '-m', 'pip', 'install', '-q', 'build', 'twine', log=LOG)
    step('sdist, and a wheel from it')
    call(python, '-m', 'build', '--outdir', dist, source, log=LOG)
    files = sorted(dist.iterdir())
    step(f'twine check {" ".join(file.name for file in files)}')
    call(python, '-m', 'twine', 'check', '--strict', *files, log=LOG)
    (wheel,) = dist.glob('*.whl')
    version = wheel.name.split('-')[1]
    step(f'{version} in the changelog')
    text = (REPO / 'CHANGELOG.md').read_text(encoding='utf-8')
    heading = re.search(rf'^## {re.escape(version)}\b.*', text, re.M)
    if not heading:
        raise RuntimeError(f'expected a heading "## {version}" in CHANGELOG.md.')
    if 'not released' in heading[0]:
        print(f'  before you tag it: the changelog still says {heading[0]!r}')
    return wheel


def documented_extras() -> str:
    """Those that README installs, such as '[mim,cpu]'."""
    text = (REPO / 'README.md').read_text(encoding='utf-8')
    return re.search(r"pip install '\.(\[.*?\])'", text)[1]


def use(row: Row, wheel: Path) -> None:
    """Install the wheel beside a row's versions, and use it."""
    python = interpreter(row.python)
    if python is None:
        raise RuntimeError(f'no Python {row.python} on this machine')
    environment, empty = FOLDER / row.name, FOLDER / 'empty'
    shutil.rmtree(environment, ignore_errors=True)
    shutil.rmtree(empty, ignore_errors=True)
    empty.mkdir()
    step(f'{row.name}: an environment')
    call(python, '-m', 'venv', environment, log=LOG)
    own = environment / 'bin' / 'python'
    pip = (own, '-m', 'pip')
    call(*pip, 'install', '-q', 'pip<25', log=LOG)
    install(row, pip, f'{wheel}{documented_extras()}', log=LOG)

    def inside(*command: object) -> str:
        step(f'{row.name}: {" ".join(map(str, command[:4]))}')
        return call(own, *command, cwd=empty, env=without_repository(), log=LOG)

    inside('-m', 'aia_mmaction.doctor')
    found = inside('-m', 'mim', 'search', 'aia_mmaction', '--valid-config')
    missing = [
        path.stem
        for path in (REPO / 'configs').glob('*.py')
        if f"'{path.stem}'" not in found
    ]
    if missing:
        raise RuntimeError(f'expected all configs in `mim search`, got no {missing}.')
    to = ('--config', CONFIG, '--dest', empty)
    inside('-m', 'mim', 'download', 'aia_mmaction', *to)
    if not (empty / f'{CONFIG}.py').exists():
        raise RuntimeError(f'expected `mim download` to write {CONFIG}.py.')
    (demo,) = environment.glob(
        'lib/python*/site-packages/aia_mmaction/.mim/tools/demo.py'
    )
    inside(demo, '--cfg-options', 'train_cfg.max_epochs=1', *DEMO)
    if not (empty / 'work_dirs/demo/report.md').exists():
        raise RuntimeError('expected the demo to write work_dirs/demo/report.md.')


def main() -> int:
    """Return 1 if the commit is not fit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    by_name = {row.name: row for row in ROWS}
    default = [ROWS[0].name, ROWS[-1].name]
    parser.add_argument('--rows', nargs='+', choices=by_name, default=default)
    rows = parser.parse_args().rows
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    try:
        wheel = build()
        for name in rows:
            try:
                use(by_name[name], wheel)
            finally:  # gigabytes, before the next one
                shutil.rmtree(FOLDER / name, ignore_errors=True)
    except RuntimeError as error:
        print(f'not fit: {error} See {LOG}.')
        return 1
    print(f'fit: {wheel.name}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
