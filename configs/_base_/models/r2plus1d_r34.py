# MMAction2's R(2+1)D. It names SyncBN; with BN3d and `sync_bn` of the runner
# the attention is synchronised too, and one CPU or GPU can train.
_base_ = 'mmaction::_base_/models/r2plus1d_r34.py'

model = dict(
    backbone=dict(
        type='AIAResNet2Plus1d',
        norm_cfg=dict(type='BN3d'),
        plugins=[dict(cfg=dict(type='CinST'), position='after_norm2')],
    )
)
