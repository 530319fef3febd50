"""A learning rate of the attention's own, beside any other constructor."""

import re
from argparse import ArgumentParser

import pytest
from mmaction.registry import MODELS
from mmengine.config import ConfigDict, DictAction
from mmengine.optim import MultiStepLR, build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

from ..conftest import REPO, read_config

BACKBONE = dict(type='AIAResNet', depth=18, num_segments=2)

OTHERS = {
    'MMEngine, one group': dict(),
    'MMEngine, a group per parameter': dict(norm_decay_mult=0.0),
    'TSM': dict(constructor='TSMOptimWrapperConstructor', fc_lr5=True),
}


@pytest.fixture(scope='module')
def model():
    init_default_scope('mmaction')
    return MODELS.build(
        dict(
            type='Recognizer2D',
            backbone=BACKBONE,
            neck=dict(type='AIANeck', num_segments=2),
            cls_head=dict(type='TSNHead', num_classes=3, in_channels=512),
        )
    )


def build(model, paramwise_cfg, **others):
    cfg = dict(
        optimizer=dict(type='SGD', lr=0.01, weight_decay=1e-4),
        paramwise_cfg=paramwise_cfg,
        **others,
    )
    return build_optim_wrapper(model, ConfigDict(cfg)).optimizer


def settings(model, optimizer):
    """Rate and decay of every parameter, by name; each is in one group."""
    names = {id(p): name for name, p in model.named_parameters()}
    found = [
        (names[id(p)], (group['lr'], group['weight_decay']))
        for group in optimizer.param_groups
        for p in group['params']
    ]
    assert len(found) == len(names) == len(dict(found))
    return dict(found)


def is_attention(name):
    return '.gate_' in name


@pytest.mark.parametrize('others', OTHERS.values(), ids=OTHERS)
def test_rates_of_the_attention_are_multiplied(model, others):
    options = dict(others)
    constructor = options.pop('constructor', 'DefaultOptimWrapperConstructor')
    without = settings(model, build(model, options, constructor=constructor))
    own = build(
        model,
        dict(attention_lr_mult=10, **others),
        constructor='aia_mmaction.AIAOptimWrapperConstructor',
    )
    found = settings(model, own)
    assert sum(map(is_attention, found)) == (8 + 1) * 12  # blocks, neck; tensors
    for name, (rate, decay) in without.items():
        factor = 10 if is_attention(name) else 1
        assert found[name] == (pytest.approx(factor * rate), decay), name


def test_schedules_keep_the_ratio(model):
    optimizer = build(
        model,
        dict(attention_lr_mult=10),
        constructor='AIAOptimWrapperConstructor',
    )
    schedule = MultiStepLR(optimizer, milestones=[1], gamma=0.1)
    optimizer.step()
    schedule.step()
    rates = {name: rate for name, (rate, _) in settings(model, optimizer).items()}
    for name, rate in rates.items():
        assert rate == pytest.approx(0.01 if is_attention(name) else 0.001)


@pytest.mark.parametrize('others', OTHERS.values(), ids=OTHERS)
def test_resumes_from_checkpoints_of_the_other_constructor(model, others):
    """The groups are the same ones where the multiplier is 1."""
    options = dict(others)
    constructor = options.pop('constructor', 'DefaultOptimWrapperConstructor')
    before = build(model, options, constructor=constructor)
    after = build(model, dict(others), constructor='AIAOptimWrapperConstructor')
    groups = [
        [[id(p) for p in group['params']] for group in optimizer.param_groups]
        for optimizer in (before, after)
    ]
    assert groups[0] == groups[1]


@pytest.mark.parametrize(
    'name', ['tsm_r50_cinst_sthv1.py', 'tsn_mobilenetv2_cinst_utd-mhad.py']
)
def test_one_option_on_the_command_line(name):
    cfg = read_config(name)
    cfg.merge_from_dict({'optim_wrapper.paramwise_cfg.attention_lr_mult': 10})
    network = nn.Module()
    network.backbone = MODELS.build(BACKBONE)
    network.fc = nn.Linear(2, 2)
    wrapper = build_optim_wrapper(network, cfg.optim_wrapper)
    found = settings(network, wrapper.optimizer)
    rates = {rate for name, (rate, _) in found.items() if is_attention(name)}
    assert rates == {10 * cfg.optim_wrapper.optimizer.lr}


def test_option_of_the_page_for_trained_networks():
    """With the config of docs/training.md, whose own constructor is TSM's."""
    page = (REPO / 'docs/training.md').read_text().replace('\\\n', ' ')
    (command,) = re.findall(
        r'^mim train .* --cfg-options load_from=\S+ (.*)', page, re.M
    )
    parser = ArgumentParser()
    parser.add_argument('options', nargs='+', action=DictAction)
    options = parser.parse_args(command.split()).options
    cfg = read_config('tsm_r50_cinst_sthv2.py')
    cfg.merge_from_dict({'model.backbone.pretrained': None, **options})
    network = MODELS.build(cfg.model)
    found = settings(network, build_optim_wrapper(network, cfg.optim_wrapper).optimizer)
    rates = {rate for name, (rate, _) in found.items() if is_attention(name)}
    assert rates == {10 * cfg.optim_wrapper.optimizer.lr}


@pytest.mark.parametrize('value', [0, -1, '10', None])
def test_multiplier_is_checked(model, value):
    with pytest.raises(ValueError, match=f'a number above 0, got {value!r}'):
        build(
            model,
            dict(attention_lr_mult=value),
            constructor='AIAOptimWrapperConstructor',
        )
