"""Training with ``compile=True``, which traces the optimizer's step, too."""

from functools import wraps

from .repair import Repair


def _is_traced() -> bool:
    from mmengine.optim import OptimWrapper

    # What torch.compiler.disable leaves on a function
    return not hasattr(OptimWrapper.update_params, '_torchdynamo_disable')


def _keep_optimizer_out_of_graph() -> None:
    import torch
    from mmengine.optim import OptimWrapper
    from mmengine.runner import Runner

    train = Runner.train

    @wraps(train)
    def repaired(self):
        # Here and not at import, because this loads dynamo.
        if self.cfg.get('compile') and _is_traced():
            OptimWrapper.update_params = torch.compiler.disable(
                OptimWrapper.update_params
            )
        return train(self)

    Runner.train = repaired


REPAIR = Repair(
    symptom='compile=True traces the optimizer step, and dynamo fails on its '
    'settings, clip_grad for one',
    affected='mmengine 0.10.4 to 0.11.0rc3 with most versions of torch, not 2.9',
    is_broken=_is_traced,
    mend=_keep_optimizer_out_of_graph,
)
