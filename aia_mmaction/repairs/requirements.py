"""What has to be installed, and what to say when it is not.

Looks only at what is installed and imports none of it, so that it works where
imports fail.
"""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from platform import python_version
from typing import Iterator, NamedTuple, Optional, Tuple

# module: (distribution, lowest version, first version that is too new)
REQUIRED = {
    'torch': ('torch', '2.1', '3'),
    # Older ones fail with the yapf that pip installs beside them.
    'mmengine': ('mmengine', '0.10.4', '1.0.0'),
    'mmaction': ('mmaction2', '1.2.0', '1.3.0'),
}

# What `make test-versions` ran: the first two numbers of versions.
TESTED = {
    'Python': ('3.8', '3.9', '3.10', '3.11', '3.12', '3.13'),
    'torch': ('2.1', '2.4', '2.5', '2.6', '2.7', '2.8', '2.9', '2.13', '2.14'),
    'mmengine': ('0.10', '0.11'),
    'mmaction2': ('1.2',),
    'mmcv-lite': ('2.0', '2.1'),
}


class Problem(NamedTuple):
    """What is wrong with an installation, and the command that mends it."""

    what: str
    remedy: str


def installed(distribution: str) -> Optional[str]:
    """The version of a distribution, None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def release(text: str) -> Tuple[int, ...]:
    """``'2.0.0rc4'`` to ``(2, 0, 0)``, comparable as a tuple."""
    parts = text.split('+')[0].split('rc')[0].split('.')
    return tuple(int(p) for p in parts if p.isdigit())


def find_missing() -> Iterator[Problem]:
    """What makes ``import aia_mmaction`` fail."""
    for module, (distribution, low, below) in REQUIRED.items():
        got = installed(distribution)
        remedy = f'pip install "{distribution}>={low},<{below}"'
        if not find_spec(module):
            yield Problem(f'{distribution} is not installed', remedy)
        elif got and not release(low) <= release(got) < release(below):
            yield Problem(f'expected {distribution}>={low},<{below}, got {got}', remedy)

    got = installed('mmcv') or installed('mmcv-lite')
    if not find_spec('mmcv'):
        yield Problem(
            'expected mmcv or mmcv-lite, got neither',
            'pip install "mmcv-lite>=2.0.1,<2.2.0", or mim install '
            '"mmcv>=2.0.1,<2.2.0" for compiled operators',
        )
    elif got and not (2, 0, 1) <= release(got) < (2, 2):
        name = 'mmcv' if installed('mmcv') else 'mmcv-lite'
        yield Problem(
            f'expected {name}>=2.0.1,<2.2.0, got {got}',
            f'pip install "{name}>=2.0.1,<2.2.0"',
        )

    if not find_spec('importlib_metadata'):
        yield Problem(
            'importlib_metadata, which mmaction2 imports without declaring '
            'it, is not installed',
            'pip install importlib_metadata',
        )


def find_untested() -> Iterator[str]:
    """What is installed in a version that :data:`TESTED` does not have."""
    for name, tested in TESTED.items():
        got = python_version() if name == 'Python' else installed(name)
        if name == 'mmcv-lite':
            got = installed('mmcv') or got
        if got and '.'.join(got.split('.')[:2]) not in tested:
            yield f'{name} {got} (tested: {", ".join(tested)})'


def check_requirements() -> None:
    """Raise an ImportError that names everything missing and its remedy."""
    missing = list(find_missing())
    if missing:
        raise ImportError(
            'aia_mmaction cannot run here. '
            + ' '.join(f'{what}: {remedy}.' for what, remedy in missing)
        )
