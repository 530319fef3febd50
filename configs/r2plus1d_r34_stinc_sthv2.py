# As r2plus1d_r34_cinst_sthv2.py, with STinC in the place of CinST.
_base_ = 'r2plus1d_r34_cinst_sthv2.py'

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='STinC'))]))
