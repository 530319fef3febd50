"""A config inherits from MMAction2 1.1: ``_base_ = 'mmaction::...'``."""

from .on_disk import Edit
from .repair import Repair

_BSN = 'configs/localization/bsn/bsn_{}.py'
# It has a list where MMEngine expects the name of a config. 1.2 has the last
# one.
INDEX = Edit(
    symptom='.mim/configs/localization/bsn/metafile.yml of mmaction2 1.1 has a '
    "list of configs for one model, with which no _base_='mmaction::...' can be "
    'found',
    package='mmaction',
    path='.mim/configs/localization/bsn/metafile.yml',
    old='    Config:\n'
    + ''.join(
        f'      - {_BSN.format(name)}\n'
        for name in (
            'tem_1xb16-400x100-20e_activitynet-feature',
            'pgm_400x100_activitynet-feature',
            'pem_1xb16-400x100-20e_activitynet-feature',
        )
    ),
    new='    Config: '
    + _BSN.format('pem_1xb16-400x100-20e_activitynet-feature')
    + '  # by aia_mmaction.doctor --fix, changed back by --undo\n',
)

REPAIR = Repair(symptom=INDEX.symptom, affected='mmaction2 1.1.0', on_disk=(INDEX,))
