# Plain TSN on the motion pairs, the demo's baseline.
_base_ = [
    '_base_/models/tsn_r50.py',
    '_base_/datasets/motion_pairs.py',
    '_base_/schedules/sgd_4e.py',
    '_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        depth=18, pretrained=None, num_segments=_base_.num_segments, plugins=[]
    ),
    cls_head=dict(num_classes=_base_.num_classes, in_channels=512),
)
default_hooks = dict(logger=dict(interval=10))
