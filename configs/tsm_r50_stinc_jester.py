# As tsm_r50_cinst_jester.py, with STinC in the place of CinST.
_base_ = 'tsm_r50_cinst_jester.py'

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='STinC'))]))
