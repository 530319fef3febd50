# TSN with CinST on the motion pairs: the baseline with one line changed.
_base_ = 'tsn_r18_motion-pairs.py'

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='CinST'))]))
