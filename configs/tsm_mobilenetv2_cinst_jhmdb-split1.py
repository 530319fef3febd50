# AIA(TSM) with CinST on J-HMDB split 1: the baseline with one line changed.
_base_ = 'tsm_mobilenetv2_jhmdb-split1.py'

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='CinST'))]))
