_base_ = 'mmaction::_base_/models/tsn_r50.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='AIAMobileNetV2',
        pretrained='mmcls://mobilenet_v2',
        num_segments=8,
        plugins=[dict(cfg=dict(type='CinST'), position='after_norm2')],
    ),
    cls_head=dict(in_channels=1280, dropout_ratio=0.5),
)
