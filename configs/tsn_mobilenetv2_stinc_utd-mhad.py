# AIA(TSN) with STinC on UTD-MHAD: the baseline with one line changed.
_base_ = 'tsn_mobilenetv2_utd-mhad.py'

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='STinC'))]))
