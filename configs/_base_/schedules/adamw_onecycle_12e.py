# For small networks and sets: 12 epochs, validation at the end alone. The rate
# rises for the first third of the iterations and falls to nothing after it.
max_lr = 5e-4

train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=12, val_begin=12, val_interval=12
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=max_lr, weight_decay=0.01),
    clip_grad=dict(max_norm=20, norm_type=2),
)
param_scheduler = [
    dict(
        type='OneCycleLR',
        eta_max=max_lr,
        pct_start=0.3,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
