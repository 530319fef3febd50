# As r2plus1d_r34_cinst_kinetics400.py, with STinC in the place of CinST.
_base_ = 'r2plus1d_r34_cinst_kinetics400.py'

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='STinC'))]))
