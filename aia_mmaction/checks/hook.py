import logging
from typing import Any, Set

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from .labels import check_labels
from .learning_rate import lost_multiplier
from .num_segments import wrong_batch, wrong_num_segments
from .variables import unused_variables


@HOOKS.register_module()
class CheckConfigHook(Hook):
    """Compare what a config says in several places, before the first iteration.

    Every runner has it once :mod:`aia_mmaction` is imported; see
    :mod:`aia_mmaction.repairs.unchecked_configs`.

    Raises:
        ValueError: If a label of a dataset is beyond ``num_classes`` of the
            head, the frames per clip of attention, head and pipelines
            (``num_segments``) are not one number, or the schedule undoes the
            attention's own learning rate.
    """

    priority = 'VERY_HIGH'  # before hooks that write

    def __init__(self) -> None:
        self._checked: Set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Check training and validation, and warn of what will stop testing."""
        self._warn_of_variables(runner)
        self._check(runner, 'train', 'val')
        wrong = lost_multiplier(runner.cfg)
        if wrong:
            raise ValueError(wrong)
        # Plain TSN is often tested with more frames than it is trained with.
        wrong = wrong_num_segments(_model(runner), runner.cfg, ['test'])
        if wrong:
            _warn(f'This will stop testing. {wrong}')

    def before_val(self, runner: Runner) -> None:
        """Check validation, once."""
        self._check(runner, 'val')

    def before_test(self, runner: Runner) -> None:
        """Check testing, once."""
        self._warn_of_variables(runner)
        self._check(runner, 'test')

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Check the first batch."""
        self._check_batch(runner, 'training batch', data_batch)

    def before_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Check the first batch."""
        self._check_batch(runner, 'validation batch', data_batch)

    def before_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Check the first batch."""
        self._check_batch(runner, 'test batch', data_batch)

    def _warn_of_variables(self, runner: Runner) -> None:
        if 'variables' not in self._checked:
            for text in unused_variables(runner.cfg):
                _warn(text)
            self._checked.add('variables')

    def _check_batch(self, runner: Runner, what: str, data_batch: Any) -> None:
        if what in self._checked or not isinstance(data_batch, dict):
            return
        wrong = wrong_batch(_model(runner), data_batch.get('inputs'))
        if wrong:
            raise ValueError(wrong)
        self._checked.add(what)

    def _check(self, runner: Runner, *phases: str) -> None:
        if self._checked.issuperset(phases):  # each epoch validates
            return
        model = _model(runner)
        wrong = wrong_num_segments(model, runner.cfg, phases)
        if wrong:
            raise ValueError(wrong)
        for phase in phases:
            loop = getattr(runner, f'{phase}_loop')
            loader = getattr(loop, 'dataloader', None)  # training may go without val
            check_labels(getattr(loader, 'dataset', None), model, f'{phase}_dataloader')
        self._checked.update(phases)


def _model(runner: Runner):
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _warn(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)
