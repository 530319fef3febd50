# AIA(TSN) with STinC on J-HMDB split 1: the baseline with one line changed.
_base_ = 'tsn_mobilenetv2_jhmdb-split1.py'

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='STinC'))]))
