"""Distributed runs on CPUs, for which MMEngine selects a CUDA device."""

from functools import wraps
from unittest.mock import patch

from .repair import Repair


def _needs_cuda() -> bool:
    import torch
    from mmengine.dist import utils

    return not torch.cuda.is_available() and hasattr(utils, '_init_dist_pytorch')


def _let_gloo_start_on_cpu() -> None:
    from mmengine.dist import utils
    from mmengine.model import MMDistributedDataParallel

    init_dist = utils._init_dist_pytorch

    @wraps(init_dist)
    def repaired(backend, *args, **kwargs):
        if backend != 'gloo':
            return init_dist(backend, *args, **kwargs)
        with patch('torch.cuda.set_device'):
            return init_dist(backend, *args, **kwargs)

    utils._init_dist_pytorch = repaired

    init = MMDistributedDataParallel.__init__

    @wraps(init)
    def init_of_any_device(self, module, *args, **kwargs):
        if all(p.device.type == 'cpu' for p in module.parameters()):
            kwargs['device_ids'] = None
        init(self, module, *args, **kwargs)

    MMDistributedDataParallel.__init__ = init_of_any_device


REPAIR = Repair(
    symptom='MMEngine selects a CUDA device for gloo, and for the wrapper '
    'of a model that is on the CPU, on a machine without one',
    affected='mmengine 0.10.4 to 0.11.0rc3',
    is_broken=_needs_cuda,
    mend=_let_gloo_start_on_cpu,
)
