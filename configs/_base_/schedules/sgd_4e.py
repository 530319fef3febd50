# A short schedule for the demo: the rate rises for an epoch and falls to 0 by the
# last. The fall is as long as the training, since MMEngine fills in its end.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_begin=1, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    constructor='AIAOptimWrapperConstructor',
    # Above 1 for a network that is trained already, to which attention is added
    paramwise_cfg=dict(attention_lr_mult=1),
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=20, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', convert_to_iter_based=True),
]
