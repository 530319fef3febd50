# AIA(TSM) with CinST on Jester, 8 frames.
_base_ = [
    '_base_/models/tsm_r50.py',
    '_base_/datasets/jester.py',
    '_base_/schedules/sgd_50e.py',
    '_base_/default_runtime.py',
]

model = dict(
    backbone=dict(num_segments=_base_.num_segments),
    cls_head=dict(num_classes=_base_.num_classes, num_segments=_base_.num_segments),
)
