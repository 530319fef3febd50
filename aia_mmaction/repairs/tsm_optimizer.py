"""TSM's learning policy, which knows convolutions, linear layers and norms alone.

Another layer with parameters, such as a LayerNorm, is an error if it has no
children, and is left out of the training if it has some.
"""

from functools import wraps
from types import SimpleNamespace

from .repair import Repair


def _leaves_parameters_out() -> bool:
    import torch
    from mmaction.engine.optimizers import TSMOptimWrapperConstructor

    constructor = TSMOptimWrapperConstructor(
        dict(optimizer=dict(type='SGD', lr=1.0)), dict(fc_lr5=False)
    )
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.LayerNorm(1))
    model.add_module('fc', torch.nn.Linear(1, 1))
    try:
        constructor.add_params([], model)
    except ValueError:
        return True
    return False


def _give_all_parameters_a_policy() -> None:
    from mmaction.engine.optimizers import TSMOptimWrapperConstructor
    from torch import nn

    add_params = TSMOptimWrapperConstructor.add_params
    known = (
        *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
        *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
        *(nn.GroupNorm, nn.Linear),
    )

    @wraps(add_params)
    def repaired(self, params, model, **kwargs):
        modules = list(model.modules())
        others = [m for m in modules if not isinstance(m, known)]
        own = [p for m in others for p in m.parameters(recurse=False)]
        kept = [m for m in modules if isinstance(m, known)]
        add_params(self, params, SimpleNamespace(modules=lambda: kept), **kwargs)
        # As the policy has it: weights decay, norms and biases do not.
        weights = [p for p in own if p.dim() > 1]
        vectors = [p for p in own if p.dim() <= 1]
        for found, decay in ((weights, self.base_wd), (vectors, 0)):
            if found:  # no new group otherwise: older checkpoints have none
                params.append(dict(params=found, lr=self.base_lr, weight_decay=decay))

    TSMOptimWrapperConstructor.add_params = repaired


REPAIR = Repair(
    symptom="TSM's optimizer constructor stops at a layer that is neither "
    'convolution, linear layer nor batch norm, or leaves its parameters out',
    affected='mmaction2 1.2.0',
    is_broken=_leaves_parameters_out,
    mend=_give_all_parameters_a_policy,
)
