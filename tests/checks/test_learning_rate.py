import pytest

from .conftest import Checked


def run(multiplier, *schedules, constructor='aia_mmaction.AIAOptimWrapperConstructor'):
    options = dict(
        constructor=constructor, paramwise_cfg=dict(attention_lr_mult=multiplier)
    )
    cfg = dict(optim_wrapper=options, param_scheduler=list(schedules))
    return Checked(cfg=cfg)


ONE_CYCLE = dict(type='OneCycleLR', eta_max=0.1)


def test_one_cycle_loses_the_multiplier():
    expected = 'attention_lr_mult=10: expected schedules that change the rates'
    with pytest.raises(ValueError, match=expected):
        run(10, ONE_CYCLE).train()


@pytest.mark.parametrize('constructor', [None, 'TSMOptimWrapperConstructor'])
def test_another_constructor_does_not_know_it(constructor):
    with pytest.raises(ValueError, match="with constructor='AIAOptimWrapper"):
        run(10, constructor=constructor).train()
    run(1, constructor=constructor).train()


def test_others_keep_it():
    run(10, dict(type='LinearLR'), dict(type='CosineAnnealingLR')).train()
    run(1, ONE_CYCLE).train()
    Checked().train()
