# A short schedule for the demo: the rate rises for the first third of the
# iterations and falls to nothing after it. It is as long as the training, since
# MMEngine fills in total_steps.
max_lr = 0.02

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_begin=1, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=max_lr, momentum=0.9, weight_decay=1e-4),
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
