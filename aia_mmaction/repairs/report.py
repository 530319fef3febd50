"""What the doctor finds and does."""

import platform
import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Iterator, List, Tuple, Union

from . import DISABLE_VARIABLE, all_repairs, disabled_repairs
from .on_disk import Edit, NewFiles
from .private_names import find_gone
from .requirements import Problem, find_missing, find_untested, installed, release

PACKAGES = (
    'torch',
    'mmengine',
    'mmcv',
    'mmcv-lite',
    'mmaction2',
    'decord',
    'eva-decord',
    'av',
    'numba',
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


_FIX = 'python -m aia_mmaction.doctor --fix'


def find_problems() -> Iterator[Problem]:
    """What keeps training, testing or inference from working."""
    yield from find_missing()
    if not find_spec('decord'):
        yield Problem(
            'decord is not installed: no video file can be read',
            'pip install decord, or eva-decord on macOS',
        )
    error = _error_of_pkg_resources()
    if error:
        yield Problem(
            f"no pkg_resources ({error}): mim and _base_='mmaction::...' fail",
            'pip install "setuptools>=66.1,<81"',
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
    for change in _changes():
        if not change.for_tools and change.is_missing():
            yield Problem(change.symptom, _FIX)


def _error_of_pkg_resources() -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # it is deprecated
            import_module('pkg_resources')
    except Exception as error:  # setuptools < 66.1 fails in Python 3.12
        return f'{type(error).__name__}: {error}'
    return ''


def find_limits() -> Iterator[Problem]:
    """What only some tools miss."""
    if not installed('openmim'):
        yield Problem(
            '`mim train`, `mim test` and the tools that call them need mim',
            'pip install openmim "pip<25"',
        )
    av = installed('av')
    if av is None or release(av) < (15,):
        yield Problem(
            'videos that decord does not read, or not in order (cut without '
            'encoding them again, B-frames in an AVI, AV1, GIF), need PyAV 15',
            'pip install "av>=15" (with Python 3.9 or newer)',
        )
    if not installed('numba'):
        yield Problem(
            'on CPUs the attention takes about half the time with numba',
            'pip install numba',
        )
    if not installed('torchvision'):
        yield Problem(
            "pretrained='torchvision://...' needs torchvision",
            'pip install torchvision, or give pretrained= the path of a '
            'downloaded .pth file',
        )
    moviepy = installed('moviepy')
    if moviepy is None or release(moviepy) >= (2,):
        yield Problem(
            'vis_cam.py and browse_dataset.py need moviepy 1', 'pip install "moviepy<2"'
        )
    if not installed('seaborn'):
        yield Problem('analyze_logs.py needs seaborn', 'pip install seaborn')
    for change in _changes():
        if change.for_tools and change.is_missing():
            yield Problem(change.symptom, _FIX)
    yield Problem(
        'benchmark.py and bench_processing.py of MMAction2 1.x import '
        'mmcv.Config, which mmcv 2 does not have',
        'none: do not use them',
    )


def find_repairs() -> Iterator[Problem]:
    """What is broken and gets repaired in memory, on import."""
    disabled = disabled_repairs()
    for name, repair in all_repairs().items():
        if repair.mend and repair.is_broken and repair.is_broken():
            remedy = f'mended on every import; {DISABLE_VARIABLE}={name} turns that off'
            if name in disabled:
                remedy = f'turned off by {DISABLE_VARIABLE}'
            what = f'{repair.symptom} ({repair.affected}; {repair.upstream})'
            yield Problem(what, remedy)
            if repair.comes_first:
                repair.mend()


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
    untested = ', '.join(find_untested())
    if untested:
        lines.append(f'not tested with {untested}')
    repaired = []
    if not list(find_missing()):
        try:
            repaired = list(find_repairs())
            problems += find_gone()
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
        for change in _changes():
            if change.is_missing():
                change.make()
                done.append(f'Changed {change.target()}.')
    except OSError as error:
        raise SystemExit(
            f'doctor: expected to write {_paths()}, got {error}. Run it as a '
            'user who may, or delete what is in the way.'
        ) from error
    return '\n'.join(done) or 'Nothing to fix on disk.'


def undo() -> str:
    """Take back what :func:`fix` did; return what was done."""
    done = []
    for change in _changes():
        if change.is_made():
            change.undo()
            done.append(f'Changed {change.target()} back.')
    return '\n'.join(done) or (
        f'Nothing to undo: there is nothing of what --fix writes in {_paths()}.'
    )


def _changes() -> List[Union[Edit, NewFiles]]:
    return [
        change
        for repair in all_repairs().values()
        for change in repair.on_disk
        if find_spec(change.package)
    ]


def _paths() -> str:
    return ', '.join(str(change.target()) for change in _changes())
