# Plain TSM on UTD-MHAD, 8 frames, small enough for a CPU.
_base_ = [
    '_base_/models/tsm_mobilenetv2.py',
    '_base_/datasets/utd_mhad.py',
    '_base_/schedules/adamw_12e.py',
    '_base_/default_runtime.py',
]

model = dict(
    backbone=dict(num_segments=_base_.num_segments, plugins=[]),
    cls_head=dict(num_classes=_base_.num_classes, num_segments=_base_.num_segments),
)
default_hooks = dict(logger=dict(interval=10))
custom_hooks = [dict(type='ChannelsLastHook')]  # nearly twice as fast on a CPU
