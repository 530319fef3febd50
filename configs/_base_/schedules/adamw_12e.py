# For small networks and sets: 12 epochs, validation at the end alone. The rate
# rises for four epochs and falls to 0 by the last. For another number of epochs,
# change val_begin, val_interval and the schedule's last `end`, too.
train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=12, val_begin=12, val_interval=12
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    constructor='AIAOptimWrapperConstructor',
    # Above 1 for a network that is trained already, to which attention is added
    paramwise_cfg=dict(attention_lr_mult=1),
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=20, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, end=4, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=4, end=12, convert_to_iter_based=True),
]
