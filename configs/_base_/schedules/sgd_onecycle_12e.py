# The demo's schedule, three times as long, with validation at the end alone.
_base_ = 'sgd_onecycle_4e.py'

train_cfg = dict(max_epochs=12, val_begin=12, val_interval=12)
