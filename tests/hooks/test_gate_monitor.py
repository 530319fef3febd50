"""GateMonitorHook, in runs of MMEngine's runner."""

import copy
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from aia_mmaction import CinST, GateMonitorHook, STinC

from ..conftest import read_config

ITERATIONS = 14
LAYERS = {'CinST': CinST, 'STinC': STinC, 'none': lambda **kwargs: nn.Identity()}


class Network(BaseModel):
    """Two layers, and a loss that asks something of them."""

    def __init__(self, kind, is_dead, calls_layers):
        super().__init__()
        self.is_dead, self.calls_layers = is_dead, calls_layers
        self.first, self.second = (LAYERS[kind](num_segments=4) for _ in range(2))
        self.fc = nn.Linear(3, 1)

    def init_weights(self):
        super().init_weights()
        for module in self.modules():
            if self.is_dead and isinstance(module, nn.BatchNorm3d):
                nn.init.zeros_(module.weight)

    def forward(self, inputs, mode='tensor'):
        x = inputs.flatten(0, 1)
        if self.calls_layers:
            x = self.second(self.first(x))
        out = self.fc(x.mean((2, 3)))
        return dict(loss=out.square().mean()) if mode == 'loss' else out


def train(
    folder,
    hooks,
    kind='CinST',
    is_dead=False,
    calls_layers=True,
    iterations=6,
    lr=0.1,
    compile=False,
    **optim_wrapper,
):
    torch.manual_seed(0)
    clips = [dict(inputs=clip) for clip in torch.randn(8, 4, 3, 5, 6)]
    runner = Runner(
        Network(kind, is_dead, calls_layers),
        str(folder),
        train_dataloader=torch.utils.data.DataLoader(clips, batch_size=2),
        train_cfg=dict(by_epoch=False, max_iters=iterations),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=lr), **optim_wrapper),
        custom_hooks=hooks,
        default_scope='mmaction',
        randomness=dict(seed=0),
        cfg=dict(compile=compile),
        experiment_name=f'{folder.name}{folder.parent.name}',
    )
    runner.train()
    return runner


def monitor(**kwargs):
    return [dict(type='GateMonitorHook', picture_interval=0, **kwargs)]


def scalars(folder):
    (path,) = folder.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if any(key.startswith('gates/') for key in row)]


def log_of(folder):
    (path,) = folder.glob('*/*.log')
    return path.read_text()


@pytest.mark.parametrize('kind', ['CinST', 'STinC'])
def test_numbers_are_those_of_the_training_batch(tmp_path, kind):
    runner = train(tmp_path, monitor(interval=1), kind, iterations=1, lr=0)
    # Again, by hand: nothing has learned, and the batch's statistics are used.
    model = copy.deepcopy(runner.model).train()
    batch = next(iter(runner.train_dataloader))
    seen = {}
    layer = model.second
    for gate in layer.children():
        gate.register_forward_hook(lambda g, args, out: seen.update({g.axis: out}))
    layer.impl = model.first.impl = 'reference'
    model.zero_grad()
    model(batch['inputs'], mode='loss')['loss'].backward()
    (row,) = scalars(tmp_path)
    for axis, values in seen.items():
        gate = getattr(layer, f'gate_{axis.lower()}')
        gradients = torch.cat([p.grad.flatten() for p in gate.parameters()])
        near = ((values < 0.01) | (values > 0.99)).float().mean()
        expected = dict(
            mean=values.mean(),
            spread=values.std(),
            saturated=near,
            gradient=gradients.norm(),
        )
        for field, value in expected.items():
            got = row[f'gates/second/{axis}/{field}']
            assert got == pytest.approx(float(value), rel=1e-4), (axis, field)
    assert len(row) == 2 * 4 * 4 + 1  # layers, gates, numbers; and the step


@pytest.mark.parametrize('amp', [False, True])
def test_training_is_the_same_with_it(tmp_path, amp, monkeypatch):
    options = {}
    if amp:  # whose casts of weights the reference path would share
        monkeypatch.setenv('AIA_MMACTION_IMPL', 'reference')
        options = dict(type='AmpOptimWrapper', dtype='bfloat16')
    plain = train(tmp_path / 'plain', [], **options)
    seen = train(tmp_path / 'seen', monitor(interval=2), **options)
    for key, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, seen.model.state_dict()[key]), key
    assert [row['step'] for row in scalars(tmp_path / 'seen')] == [2, 4, 6]
    assert log_of(tmp_path / 'seen').count('Gates at iteration') == 3


def test_gradients_are_those_before_the_loss_is_scaled(tmp_path, monkeypatch):
    """Of a scale that grows after the backward pass; on a CPU it is always 1."""
    train(tmp_path / 'float', monitor(interval=1), iterations=1)
    scales = iter([4.0, 8.0])
    scaler = SimpleNamespace(get_scale=lambda: next(scales))
    monkeypatch.setattr(OptimWrapper, 'loss_scaler', scaler, raising=False)
    train(tmp_path / 'scaled', monitor(interval=1), iterations=1)
    key = 'gates/first/T/gradient'
    (plain,), (scaled,) = (scalars(tmp_path / name) for name in ('float', 'scaled'))
    assert scaled[key] == pytest.approx(plain[key] / 4, rel=1e-4)


class Clock(Hook):
    """When each iteration was over, with all that hooks do in it."""

    priority = 'LOWEST'

    def __init__(self):
        self.times = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.times.append(time.perf_counter())


@pytest.mark.slow
def test_costs_at_most_one_percent_of_the_time(tmp_path):
    """At the default interval, in a network with many layers on small maps."""
    cfg = read_config('tsn_mobilenetv2_cinst_utd-mhad.py')
    cfg.model.backbone.pretrained = None
    label = ActionDataSample().set_gt_label(0)
    clip = torch.zeros(8, 3, 96, 96, dtype=torch.uint8)
    clips = [dict(inputs=clip, data_samples=label)] * 2 * ITERATIONS
    clock = Clock()
    runner = Runner(
        cfg.model,
        str(tmp_path),
        train_dataloader=dict(
            dataset=clips, batch_size=2, sampler=dict(type='DefaultSampler')
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0)),
        custom_hooks=[*monitor(interval=2), clock],
        default_scope='mmaction',
    )
    runner.train()
    seconds = np.diff(clock.times)[2:]  # the first ones compile
    assert len(scalars(tmp_path)) == ITERATIONS // 2
    measured, others = np.median(seconds[::2]), np.median(seconds[1::2])
    interval = GateMonitorHook().interval
    print(f'{100 * (measured / others - 1) / interval:.2f} % of the time')
    assert measured - others <= 0.01 * interval * others


def test_warns_once_of_gates_that_stay_dead(tmp_path):
    train(tmp_path, monitor(interval=1), is_dead=True, iterations=6, lr=0)
    text = log_of(tmp_path)
    assert text.count('WARNING - GateMonitorHook') == 1
    assert 'got 8 of 8 that did not in 3 measurements: first/C dead' in text


def test_does_not_warn_of_gates_that_learn(tmp_path):
    train(tmp_path, monitor(interval=1))
    assert 'WARNING - GateMonitorHook' not in log_of(tmp_path)


def test_says_that_there_is_nothing_to_see(tmp_path):
    train(tmp_path, monitor(interval=1), 'none')
    assert log_of(tmp_path).count('expected a network with layers of attention') == 1


def test_says_that_no_layer_is_called(tmp_path):
    train(tmp_path, monitor(interval=1), calls_layers=False)
    assert log_of(tmp_path).count('expected layers of attention that are called') == 1


@pytest.mark.exhaustive
def test_compiled_networks_are_measured_too(tmp_path):
    train(tmp_path / 'plain', monitor(interval=2))
    train(tmp_path / 'compiled', monitor(interval=2), compile=dict(backend='eager'))
    plain, compiled = (scalars(tmp_path / name) for name in ('plain', 'compiled'))
    assert [pytest.approx(row, rel=1e-4) for row in plain] == compiled


def test_draws_nothing_where_there_is_nothing():
    """Such as in the plain network of a study; its training goes on."""
    loader = SimpleNamespace(dataset=[dict(inputs=torch.zeros(4, 3, 5, 6))])
    said = []
    runner = SimpleNamespace(
        epoch=4,
        model=Network('none', False, True).train(),
        val_loop=SimpleNamespace(dataloader=loader),
        cfg=Config(dict(val_dataloader=dict(dataset=dict(pipeline=[])))),
        logger=SimpleNamespace(log=lambda level, text: said.append(text)),
    )
    GateMonitorHook().after_train_epoch(runner)
    assert len(said) == 1 and 'got none. Set plugins' in said[0]
    assert runner.model.training


def test_draws_after_the_checkpoint_is_written(tmp_path):
    runner = train(tmp_path, monitor(), iterations=1)
    assert isinstance(runner.hooks[-1], GateMonitorHook)
