# As tsm_r50_cinst_jester_16f.py, with STinC in the place of CinST.
_base_ = 'tsm_r50_cinst_jester_16f.py'

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='STinC'))]))
