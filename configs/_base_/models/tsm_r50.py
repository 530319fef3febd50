_base_ = 'mmaction::_base_/models/tsm_r50.py'

model = dict(
    backbone=dict(
        type='AIAResNetTSM',
        # The ImageNet weights of the authors' time (torchvision's V1).
        pretrained='https://download.pytorch.org/models/resnet50-0676ba61.pth',
        plugins=[dict(cfg=dict(type='CinST'), position='after_norm2')],
    ),
    cls_head=dict(dropout_ratio=0.5),
)
