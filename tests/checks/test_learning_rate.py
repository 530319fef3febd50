import pytest

from .conftest import Checked


def run(multiplier, *schedules, constructor='aia_mmaction.AIAOptimWrapperConstructor'):
    options = dict(
        constructor=constructor, paramwise_cfg=dict(attention_lr_mult=multiplier)
    )
    cfg = dict(optim_wrapper=options, param_scheduler=list(schedules))
    return Checked(cfg=cfg)


OPTION = dict(attention_lr_mult=10)
ONE_CYCLE = dict(type='OneCycleLR', eta_max=0.1)


def test_one_cycle_loses_the_multiplier():
    expected = 'attention_lr_mult=10: expected schedules that change the rates'
    with pytest.raises(ValueError, match=expected):
        run(10, ONE_CYCLE).train()


def test_another_constructor_does_not_know_it():
    constructor = 'TSMOptimWrapperConstructor'
    with pytest.raises(ValueError, match=f'got {constructor}, which does not know it'):
        run(10, constructor=constructor).train()
    run(1, constructor=constructor).train()


def test_a_config_without_a_constructor():
    checked = Checked(cfg=dict(optim_wrapper=dict(paramwise_cfg=OPTION)))
    with pytest.raises(ValueError, match='got DefaultOptimWrapperConstructor'):
        checked.train()


def test_others_keep_it():
    run(10, dict(type='LinearLR'), dict(type='CosineAnnealingLR')).train()
    run(1, ONE_CYCLE).train()
    Checked().train()
