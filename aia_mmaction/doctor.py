"""Report and mend what is broken in an installation of the OpenMMLab stack.

Runs where ``import aia_mmaction`` fails, and therefore imports nothing that
may be missing before it has looked.

Examples:
    python -m aia_mmaction.doctor         # versions, problems, remedies
    python -m aia_mmaction.doctor --fix   # repair on disk what can be
    python -m aia_mmaction.doctor --undo  # take that back
"""

import argparse
import platform
import sys
from importlib.util import find_spec
from typing import Iterator, List, Optional, Tuple

from . import drn
from .disk import CONFIG_INDEX, CONFIG_PACKAGE, EDITS
from .requirements import Problem, find_missing, installed, release

PACKAGES = (
    'torch',
    'mmengine',
    'mmcv',
    'mmcv-lite',
    'mmaction2',
    'decord',
    'eva-decord',
    'openmim',
    'importlib_metadata',
    'setuptools',
    'pip',
    'numpy',
    'opencv-python',
    'torchvision',
    'moviepy',
    'seaborn',
)


def find_problems() -> Iterator[Problem]:
    """What keeps training, testing or inference from working."""
    yield from find_missing()
    if not find_spec('decord'):
        yield Problem(
            'decord is not installed: no video file can be read',
            'pip install decord, or eva-decord on macOS',
        )
    if not find_spec('pkg_resources'):
        yield Problem(
            "no pkg_resources: mim and _base_='mmaction::...' fail",
            'pip install "setuptools<81"',
        )
    if installed('openmim') and not (
        find_spec('pip') and find_spec('pip._vendor.pkg_resources')
    ):
        yield Problem(
            f'mim needs a part of pip that pip {installed("pip")} does not have',
            'pip install "pip<25"',
        )
    if len([p for p in ('mmcv', 'mmcv-lite') if installed(p)]) == 2:
        yield Problem(
            "mmcv and mmcv-lite are both installed and overwrite each other's files",
            'pip uninstall mmcv mmcv-lite, then install one of them',
        )
    if find_spec('mmaction') and drn.is_missing():
        yield Problem(
            'mmaction2 lacks mmaction/models/localizers/drn. Configs that '
            'import aia_mmaction work, others cannot name its types, and '
            'MMAction2 alone cannot import its models',
            'python -m aia_mmaction.doctor --fix',
        )
    if find_spec('mmaction') and CONFIG_INDEX.is_missing():
        yield Problem(
            f'{CONFIG_INDEX.path} of mmaction2 1.1 has a list of configs for '
            "one model, with which no _base_='mmaction::...' can be found",
            'python -m aia_mmaction.doctor --fix',
        )


def find_limits() -> Iterator[Problem]:
    """What only some tools of MMAction2 miss."""
    if not installed('torchvision'):
        yield Problem(
            "pretrained='torchvision://...' needs torchvision",
            'pip install torchvision, or give pretrained= the path of a '
            'downloaded .pth file',
        )
    if not installed('moviepy') or release(installed('moviepy')) >= (2,):
        yield Problem(
            'vis_cam.py and browse_dataset.py need moviepy 1', 'pip install "moviepy<2"'
        )
    if not installed('seaborn'):
        yield Problem('analyze_logs.py needs seaborn', 'pip install seaborn')
    if find_spec('mmengine') and CONFIG_PACKAGE.is_missing():
        yield Problem(
            "configs cannot inherit by _base_='aia_mmaction::...': MMEngine "
            "knows OpenMMLab's packages only",
            'python -m aia_mmaction.doctor --fix',
        )
    yield Problem(
        'benchmark.py and bench_processing.py of MMAction2 1.x import '
        'mmcv.Config, which mmcv 2 does not have',
        'none: do not use them',
    )


def find_repairs() -> Iterator[Problem]:
    """What is broken and gets repaired in memory, on import."""
    from .compat import DISABLE_VARIABLE, REPAIRS, disabled_repairs

    disabled = disabled_repairs()
    for repair in REPAIRS:
        if repair.is_broken():
            yield Problem(
                repair.breakage,
                f'turned off by {DISABLE_VARIABLE}'
                if repair.name in disabled
                else 'mended on every import; '
                f'{DISABLE_VARIABLE}={repair.name} turns that off',
            )
            if repair.name == 'drn':
                repair.apply()  # the next ones import mmaction.models


def _section(title: str, problems: List[Problem]) -> List[str]:
    lines = [f'{title}: {len(problems) or "none"}']
    for what, remedy in problems:
        lines += [f'  - {what}.', f'    -> {remedy}']
    return lines


def report() -> Tuple[str, bool]:
    """The whole report, and whether the installation is sound."""
    problems = list(find_problems())
    lines = [f'python {platform.python_version()} on {platform.platform()}']
    lines += [f'{p} {installed(p) or "not installed"}' for p in PACKAGES]
    repaired = []
    if not list(find_missing()):
        try:
            repaired = list(find_repairs())
        except Exception as error:  # e.g. a broken package that MMAction2 imports
            problems.append(
                Problem(
                    'what is repaired on import cannot be told, because of '
                    f'{type(error).__name__}: {error}',
                    'mend what raises it: python -c "import aia_mmaction" says where',
                )
            )
    lines += _section('\nProblems', problems)
    lines += _section('Repaired on import', repaired)
    lines += _section('Limits of single tools', list(find_limits()))
    return '\n'.join(lines), not problems


def fix() -> str:
    """Repair on disk what can be; return what was done."""
    done = []
    try:
        if drn.is_missing():
            drn.write_stub()
            done.append(f'Wrote {drn.folder()}.')
        for edit in EDITS:
            if edit.is_missing():
                edit.make()
                done.append(f'Changed {edit.file()}.')
    except OSError as error:
        raise SystemExit(
            f'doctor: expected to write {_places()}, got {error}. Run it as a '
            'user who may, or delete what is in the way.'
        ) from error
    return '\n'.join(done) or 'Nothing to fix on disk.'


def undo() -> str:
    """Take back what :func:`fix` did; return what was done."""
    done = []
    if drn.is_stub():
        drn.remove_stub()
        done.append(f'Removed {drn.folder()}.')
    for edit in EDITS:
        if edit.is_made():
            edit.undo()
            done.append(f'Changed {edit.file()} back.')
    return '\n'.join(done) or (
        f'Nothing to undo: there is nothing of what --fix writes in {_places()}.'
    )


def _places() -> str:
    return ', '.join(map(str, (drn.folder(), *(e.file() for e in EDITS))))


def main(args: Optional[List[str]] = None) -> int:
    """Report, fix or undo; return 1 if a problem is left."""
    parser = argparse.ArgumentParser(
        prog='python -m aia_mmaction.doctor',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--fix', action='store_true', help='repair on disk what can be')
    group.add_argument('--undo', action='store_true', help='take back what --fix did')
    options = parser.parse_args(args)
    if (options.fix or options.undo) and not find_spec('mmaction'):
        parser.exit(
            1,
            'doctor: mmaction2 is not installed, there is nothing '
            'to change. Install it: pip install mmaction2\n',
        )
    if options.fix:
        text, sound = fix(), True
    elif options.undo:
        text, sound = undo(), True
    else:
        text, sound = report()
    print(text)
    return 0 if sound else 1


if __name__ == '__main__':
    sys.exit(main())
