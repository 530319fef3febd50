"""Mixed precision on a CPU, which MMEngine refuses."""

from functools import wraps
from unittest.mock import patch

from .repair import Repair


def _is_refused() -> bool:
    import torch
    from mmengine.device import get_device
    from mmengine.optim import AmpOptimWrapper

    if get_device() != 'cpu':
        return False
    parameter = torch.nn.Parameter(torch.zeros(1))
    try:
        AmpOptimWrapper(optimizer=torch.optim.SGD([parameter], lr=0.1))
    except AssertionError:
        return True
    return False


def _let_amp_run_on_cpu() -> None:
    from mmengine.optim import AmpOptimWrapper

    init = AmpOptimWrapper.__init__

    @wraps(init)
    def repaired(self, *args, **kwargs):
        # Without CUDA the gradient scaler turns itself off, and autocast
        # takes the CPU's bfloat16.
        with patch(f'{AmpOptimWrapper.__module__}.is_cuda_available', lambda: True):
            init(self, *args, **kwargs)

    AmpOptimWrapper.__init__ = repaired


REPAIR = Repair(
    symptom='MMEngine refuses mixed precision on a CPU, which has bfloat16',
    affected='mmengine 0.10.4 to 0.11.0rc3',
    is_broken=_is_refused,
    mend=_let_amp_run_on_cpu,
)
