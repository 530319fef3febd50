import logging
import math
from functools import partial
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from aia_mmaction.datasets.example import find_dataset
from aia_mmaction.layers import ContextAttention, measure_gates

# A gate is saturated where it is this near to 0 or 1.
NEAR = 0.01
# What is warned of: this share of a gate is saturated, or its values are spread less.
MOSTLY, HARDLY = 0.9, 1e-3


class GateStatistics(NamedTuple):
    """Of a gate, over a batch."""

    mean: float
    spread: float  # the standard deviation
    saturated: float  # the share within NEAR of 0 or 1
    gradient: float  # the norm, of all the gate's parameters

    def fault(self) -> Optional[str]:
        """What a gate that does nothing, and can hardly learn to, is called."""
        if not math.isfinite(self.mean):
            return 'not finite'
        if self.saturated > MOSTLY:
            return 'saturated'
        return 'dead' if self.spread < HARDLY else None


@HOOKS.register_module()
class GateMonitorHook(Hook):
    """See what the gates of the attention do while a network trains.

    The visualizer (``scalars.json``, TensorBoard) gets, of every gate, ``mean``,
    ``spread`` (standard deviation), ``saturated`` (the share within 0.01 of 0 or 1)
    and ``gradient`` (the norm over its parameters), as ``gates/LAYER/AXIS/...``;
    the log gets one line of all. The hook warns once if gates stay saturated, dead
    (the same value everywhere) or not finite; of each other trouble it warns once, too.

    It measures the batch that is trained with, in this process alone, and one
    backward pass where gradients are accumulated. The training does not change. A
    network under ``torch.compile`` is compiled a second time.

    Args:
        interval (int): Iterations from one measurement to the next. Defaults
            to 100.
        patience (int): Measurements in a row after which a gate is warned of.
            Defaults to 3.
        picture_interval (int): Epochs from one picture of the gates to the next,
            on the same videos of the validation set each time; 0 for none.
            Defaults to 5.
        num_pictures (int): How many videos. Defaults to 2.
    """

    # After the checkpoint: no picture is worth an epoch.
    priority = 'LOWEST'

    def __init__(
        self,
        interval: int = 100,
        patience: int = 3,
        picture_interval: int = 5,
        num_pictures: int = 2,
    ) -> None:
        self.interval = interval
        self.patience = patience
        self.picture_interval = picture_interval
        self.num_pictures = num_pictures
        self._gates: Dict[str, Tensor] = {}  # mean, spread, share by the gate's name
        self._squares: Dict[str, Tensor] = {}  # the gradient's squared norm, likewise
        self._handles: List[Any] = []
        self._scale = 1.0  # of the loss
        self._faults: Dict[str, int] = {}  # how often in a row
        self._warned: Set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Look for layers."""
        if not list(_layers(runner)):
            self._warn_once(
                runner,
                'layers',
                'expected a network with layers of attention, got one without. Leave '
                'the hook out.',
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Listen to the layers for one iteration in ``interval``."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        self._scale = _loss_scale(runner)  # which changes with the iteration
        for name, layer in _layers(runner):
            listen = partial(self._measure, name)
            self._handles.append(layer.register_forward_pre_hook(listen))
            for axis, parameter in _parameters(layer):
                add = partial(self._add_gradient, f'{name}/{axis}')
                self._handles.append(parameter.register_hook(add))

    def _measure(self, name: str, layer: ContextAttention, args: Any) -> None:
        axes = layer.axes.all()
        if f'{name}/{axes[0]}' in self._gates:
            return  # called again, such as by gradient checkpointing
        for axis, gate in measure_gates(layer, args[0]).items():
            values = gate.float()
            saturated = ((values < NEAR) | (values > 1 - NEAR)).float().mean()
            self._gates[f'{name}/{axis}'] = torch.stack(
                [values.mean(), values.std(), saturated]
            )

    def _add_gradient(self, name: str, gradient: Tensor) -> None:
        square = gradient.detach().float().square().sum()
        self._squares[name] = self._squares.get(name, 0) + square

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Write down what was heard."""
        if not self._handles:
            return
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        rows = torch.stack(list(self._gates.values())).tolist() if self._gates else []
        found = {}
        for name, (mean, spread, saturated) in zip(self._gates, rows):
            gradient = math.sqrt(float(self._squares.get(name, 0))) / self._scale
            found[name] = GateStatistics(mean, spread, saturated, gradient)
        self._gates.clear()
        self._squares.clear()
        if not found:
            self._warn_once(
                runner,
                'layers',
                'expected layers of attention that are called, got none. Leave the '
                'hook out.',
            )
            return
        step = runner.iter + 1
        runner.visualizer.add_scalars(
            {
                f'gates/{name}/{field}': value
                for name, statistics in found.items()
                for field, value in statistics._asdict().items()
            },
            step=step,
        )
        runner.logger.info(f'Gates at iteration {step}: {_summary(found)}')
        self._look_for_faults(runner, found)

    def _look_for_faults(
        self, runner: Runner, found: Dict[str, GateStatistics]
    ) -> None:
        self._faults = {
            name: self._faults.get(name, 0) + 1
            for name, statistics in found.items()
            if statistics.fault()
        }
        last = [
            f'{name} {found[name].fault()}'
            for name, times in self._faults.items()
            if times >= self.patience
        ]
        if last:
            shown = ', '.join(last[:4]) + (', ...' if len(last) > 4 else '')
            self._warn_once(
                runner,
                'gates',
                'expected gates that tell places apart, got '
                f'{len(last)} of {len(found)} that did not in {self.patience} '
                f'measurements: {shown}. Give the attention another learning rate '
                '(attention_lr_mult of AIAOptimWrapperConstructor).',
            )

    def _warn_once(self, runner: Runner, what: str, text: str) -> None:
        if what not in self._warned:
            runner.logger.log(logging.WARNING, f'GateMonitorHook: {text}')
            self._warned.add(what)

    def after_train_epoch(self, runner: Runner) -> None:
        """Draw the gates, every ``picture_interval`` epochs."""
        # Not with the package, which is to be imported fast
        from aia_mmaction.visualization.video import InputError

        if (
            not self.every_n_epochs(runner, self.picture_interval)
            or runner.val_loop is None
            or not is_main_process()
        ):
            return
        try:
            self._draw(runner)
        except InputError as error:
            self._warn_once(runner, 'pictures', f'draws nothing: {error}')

    def _draw(self, runner: Runner) -> None:
        from aia_mmaction.visualization import Panel, contact_sheet
        from aia_mmaction.visualization.video import Network, gate_panels

        dataset = runner.val_loop.dataloader.dataset
        pipeline = find_dataset(runner.cfg, 'val')['pipeline']
        model = _model(runner)
        count = min(self.num_pictures, len(dataset))
        was_training = model.training
        model.eval()
        try:
            for number in range(count):
                data = pseudo_collate([dataset[number * len(dataset) // count]])
                frames, rows = gate_panels(
                    Network(model, data, pipeline), None, 'product'
                )
                panels = [panel for row in rows for panel in row]
                sheet = contact_sheet(
                    [Panel('input', frames), *panels], f'epoch {runner.epoch + 1}'
                )
                runner.visualizer.add_image(f'gates_{number}', sheet, runner.epoch + 1)
        finally:
            model.train(was_training)


def _model(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _layers(runner: Runner) -> Iterator[Tuple[str, ContextAttention]]:
    for name, module in _model(runner).named_modules():
        if isinstance(module, ContextAttention):
            yield name, module


def _parameters(layer: ContextAttention) -> Iterator[Tuple[str, nn.Parameter]]:
    """What learns, with the axis of its gate."""
    for gate in layer.children():
        for parameter in gate.parameters():
            if parameter.requires_grad:
                yield str(gate.axis), parameter


def _loss_scale(runner: Runner) -> float:
    """What gradients are multiplied by, against underflow in half precision."""
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    return 1.0 if scaler is None else float(scaler.get_scale())


def _summary(found: Dict[str, GateStatistics]) -> str:
    """One line of all gates: the mean of each number, and its range."""

    def spelled(field: str) -> str:
        values = [getattr(statistics, field) for statistics in found.values()]
        middle = sum(values) / len(values)
        return f'{field} {middle:.3g} ({min(values):.3g} to {max(values):.3g})'

    return ', '.join(map(spelled, GateStatistics._fields))
