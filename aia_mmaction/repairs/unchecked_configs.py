"""What a config says twice, which nobody compares before a run."""

from .repair import Repair


def _nothing_is_checked() -> bool:
    from mmengine.runner import Runner

    class OnlyHooks(Runner):
        def __init__(self) -> None:
            self._hooks: list = []
            self.register_hooks()

    return 'CheckConfigHook' not in [type(hook).__name__ for hook in OnlyHooks().hooks]


def _check_every_run() -> None:
    from mmengine.runner import FlexibleRunner, Runner

    for runner in (Runner, FlexibleRunner):
        runner.register_hooks = _with_check(runner.register_hooks)


def _with_check(register_hooks):
    from functools import wraps

    @wraps(register_hooks)
    def repaired(self, *args, **kwargs) -> None:
        from aia_mmaction.checks import CheckConfigHook

        register_hooks(self, *args, **kwargs)
        self.register_hook(CheckConfigHook())

    return repaired


REPAIR = Repair(
    symptom='A label beyond num_classes is an IndexError in training and nothing at '
    'all in testing; frames per clip that disagree mix clips',
    affected='mmaction2 1.2.0',
    is_broken=_nothing_is_checked,
    mend=_check_every_run,
)
