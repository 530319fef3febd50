# As tsm_r50_cinst_egtea-split1.py, with STinC in the place of CinST.
_base_ = 'tsm_r50_cinst_egtea-split1.py'

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='STinC'))]))
