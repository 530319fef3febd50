import pytest

from .conftest import Checked


def run(multiplier, *schedules):
    options = dict(paramwise_cfg=dict(attention_lr_mult=multiplier))
    cfg = dict(optim_wrapper=options, param_scheduler=list(schedules))
    return Checked(cfg=cfg)


ONE_CYCLE = dict(type='OneCycleLR', eta_max=0.1)


def test_one_cycle_loses_the_multiplier():
    expected = 'attention_lr_mult=10: expected schedules that change the rates'
    with pytest.raises(ValueError, match=expected):
        run(10, ONE_CYCLE).train()


def test_others_keep_it():
    run(10, dict(type='LinearLR'), dict(type='CosineAnnealingLR')).train()
    run(1, ONE_CYCLE).train()
    Checked().train()
