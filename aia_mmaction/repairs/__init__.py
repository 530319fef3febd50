"""Repairs of what is broken in today's OpenMMLab stack.

Most are made in memory when :mod:`aia_mmaction` is imported. Every one tries
first what is broken, and leaves a sound installation alone.
``AIA_MMACTION_DISABLE_REPAIRS`` turns them off: ``all``, or names separated by
commas. What has to change on disk, ``python -m aia_mmaction.doctor --fix``
changes.
"""

import os
from functools import lru_cache
from importlib import import_module
from logging import WARNING
from pkgutil import iter_modules
from typing import Dict, List, Set

from .private_names import find_gone
from .repair import Repair
from .requirements import find_untested

DISABLE_VARIABLE = 'AIA_MMACTION_DISABLE_REPAIRS'

_made: Set[str] = set()


@lru_cache(None)
def all_repairs() -> Dict[str, Repair]:
    """Every repair by its name, in the order in which they are made."""
    modules = {
        file.name: import_module(f'{__name__}.{file.name}')
        for file in iter_modules(__path__)
    }
    repairs = {
        name: module.REPAIR
        for name, module in modules.items()
        if hasattr(module, 'REPAIR')
    }
    return dict(sorted(repairs.items(), key=lambda item: not item[1].comes_first))


def disabled_repairs() -> Set[str]:
    """Names of the repairs that the environment variable turns off.

    Raises:
        ValueError: If it names an unknown repair.
    """
    names = {name for name, repair in all_repairs().items() if repair.mend}
    disabled = {
        name.strip() for name in os.environ.get(DISABLE_VARIABLE, '').split(',')
    } - {''}
    unknown = disabled - names - {'all'}
    if unknown:
        raise ValueError(
            f'{DISABLE_VARIABLE}: expected "all" or names out of '
            f'{", ".join(sorted(names))}, got {", ".join(sorted(unknown))}.'
        )
    return names if 'all' in disabled else disabled


def apply_repairs() -> List[str]:
    """Repair in memory what is broken, once per process, and log it in one line.

    Returns:
        List[str]: Names of the repairs that were needed and made.
    """
    from mmengine.logging import print_log

    disabled = disabled_repairs()
    made = []
    for name, repair in all_repairs().items():
        if not (repair.mend and repair.is_broken) or name in _made | disabled:
            continue
        if repair.is_broken():
            repair.mend()
            made.append(name)
    _made.update(made)
    if made:
        print_log(
            f'aia_mmaction repaired on import: {", ".join(made)} (see '
            f'docs/repairs.md; {DISABLE_VARIABLE}=all turns this off).',
            logger='current',
        )
    return made


def log_doubts() -> None:
    """Say in a line each which versions were not tested, and which private names
    of other packages are gone.
    """
    from mmengine.logging import print_log

    untested = ', '.join(find_untested())
    if untested:
        print_log(f'aia_mmaction was not tested with {untested}.', logger='current')
    for what, instead in find_gone():
        print_log(f'aia_mmaction: {what}: {instead}.', logger='current', level=WARNING)
