"""A config inherits from this package: ``_base_ = 'aia_mmaction::...'``."""

from .on_disk import Edit
from .repair import Repair

# A config is read before it imports anything, so for the tools that train and
# test, the package's name must be in MMEngine's list on disk.
LIST = Edit(
    symptom="configs cannot inherit by _base_='aia_mmaction::...': MMEngine "
    "knows OpenMMLab's packages only",
    package='mmengine',
    path='config/utils.py',
    old='MODULE2PACKAGE = {\n',
    new='MODULE2PACKAGE = {\n'
    "    'aia_mmaction': 'aia_mmaction',  # by aia_mmaction.doctor --fix, "
    'removed by --undo\n',
    for_tools=True,
)


def _is_unknown() -> bool:
    from mmengine.config.utils import MODULE2PACKAGE

    return 'aia_mmaction' not in MODULE2PACKAGE


def _make_known() -> None:
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE['aia_mmaction'] = 'aia_mmaction'


REPAIR = Repair(
    symptom="MMEngine's config inheritance by package name knows OpenMMLab's "
    'packages only',
    affected='mmengine, all',
    is_broken=_is_unknown,
    mend=_make_known,
    on_disk=(LIST,),
)
