# AIA(R(2+1)D) with CinST on Kinetics-400, 8x8 frames. The authors publish no
# recipe for it, so this is MMAction2's, with the network of
# _base_/models/r2plus1d_r34.py.
_base_ = [
    'mmaction::recognition/r2plus1d/r2plus1d_r34_8xb8-8x8x1-180e_kinetics400-rgb.py'
]

custom_imports = dict(imports=['aia_mmaction'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        type='AIAResNet2Plus1d',
        norm_cfg=dict(type='BN3d'),
        plugins=[dict(cfg=dict(type='CinST'), position='after_norm2')],
    )
)
sync_bn = 'torch'

# MMAction2's pipelines, with transforms that name a video they cannot read
for __name in ('train', 'val', 'test'):
    for __transform in _base_[f'{__name}_pipeline']:
        if __transform.type.startswith('Decord'):
            __transform.type = f'Readable{__transform.type}'
            __transform.on_error = 'skip' if __name == 'train' else 'raise'

_base_.test_pipeline[-1].meta_keys = ('filename',)  # for `--dump`

guided = dict(
    type='GuidedVideoDataset', guide="the README's section Datasets, Kinetics-400"
)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline, **guided))
val_dataloader = dict(dataset=dict(pipeline=_base_.val_pipeline, **guided))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline, **guided))
