_base_ = 'mmaction::_base_/models/tsm_mobilenet_v2.py'

model = dict(
    backbone=dict(
        type='AIAMobileNetV2TSM',
        plugins=[dict(cfg=dict(type='CinST'), position='after_norm2')],
    ),
    cls_head=dict(dropout_ratio=0.5),
)
