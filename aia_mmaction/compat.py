"""Repairs of what is broken in today's OpenMMLab stack, made on import.

Every repair looks for its breakage first and leaves a sound installation
alone. ``AIA_MMACTION_DISABLE_REPAIRS`` turns them off: ``all``, or names of
:data:`REPAIRS` separated by commas. What has to change on disk is the matter
of :mod:`aia_mmaction.doctor`.
"""

import inspect
import os
from functools import wraps
from typing import Callable, List, NamedTuple, Set
from unittest.mock import patch

import torch
from mmengine.fileio import LocalBackend
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.runner import checkpoint

from . import checkpoints, drn, numpy2, weights_only

DISABLE_VARIABLE = 'AIA_MMACTION_DISABLE_REPAIRS'


class Repair(NamedTuple):
    """What is broken, how to see that, and the mend."""

    name: str
    breakage: str
    is_broken: Callable[[], bool]
    apply: Callable[[], None]


def _loads_in_its_own_way() -> bool:
    return 'weights_only' not in inspect.getsource(checkpoint)


def _loss_breaks_on_bfloat16() -> bool:
    from mmaction.models.heads import BaseHead

    return 'cls_scores.detach().cpu().numpy()' in inspect.getsource(
        BaseHead.loss_by_feat
    )


def _compute_loss_in_float32() -> None:
    from mmaction.models.heads import BaseHead

    loss_by_feat = BaseHead.loss_by_feat

    @wraps(loss_by_feat)
    def repaired(self, cls_scores, data_samples):
        if cls_scores.dtype == torch.bfloat16:
            cls_scores = cls_scores.float()
        return loss_by_feat(self, cls_scores, data_samples)

    BaseHead.loss_by_feat = repaired


def _amp_refuses_cpu() -> bool:
    from mmengine.device import get_device
    from mmengine.optim import AmpOptimWrapper

    return get_device() == 'cpu' and 'is_cuda_available() or' in (
        inspect.getsource(AmpOptimWrapper.__init__)
    )


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


def _compile_traces_optimizer() -> bool:
    from mmengine.runner import Runner

    return '_maybe_compile' in vars(Runner)


def _keep_optimizer_out_of_graph() -> None:
    from mmengine.optim import OptimWrapper
    from mmengine.runner import Runner

    maybe_compile = Runner._maybe_compile

    @wraps(maybe_compile)
    def repaired(self, target):
        # Here and not at import, because this loads dynamo.
        if self.cfg.get('compile') and not hasattr(
            OptimWrapper.update_params, '_torchdynamo_disable'
        ):
            OptimWrapper.update_params = torch.compiler.disable(
                OptimWrapper.update_params
            )
        maybe_compile(self, target)

    Runner._maybe_compile = repaired


def _dist_needs_cuda() -> bool:
    from mmengine.dist import utils

    return not torch.cuda.is_available() and hasattr(utils, '_init_dist_pytorch')


def _let_gloo_start_on_cpu() -> None:
    from mmengine.dist import utils

    init_dist = utils._init_dist_pytorch

    @wraps(init_dist)
    def repaired(backend, *args, **kwargs):
        if backend != 'gloo':
            return init_dist(backend, *args, **kwargs)
        with patch('torch.cuda.set_device'):
            return init_dist(backend, *args, **kwargs)

    utils._init_dist_pytorch = repaired

    from mmengine.model import MMDistributedDataParallel

    init = MMDistributedDataParallel.__init__

    @wraps(init)
    def init_of_any_device(self, module, *args, **kwargs):
        if all(p.device.type == 'cpu' for p in module.parameters()):
            kwargs['device_ids'] = None
        init(self, module, *args, **kwargs)

    MMDistributedDataParallel.__init__ = init_of_any_device


def _testing_views_break() -> bool:
    from mmaction.models import Recognizer2D

    return not hasattr(BaseModule, 'get') and 'self.backbone.get(' in (
        inspect.getsource(Recognizer2D.extract_feat)
    )


def _give_modules_get() -> None:

    def get(self, name: str, default=None):
        """What ``Recognizer2D`` asks its backbone for ``max_testing_views``."""
        return getattr(self, name, default)

    BaseModule.get = get


def _neck_splits_the_batch() -> bool:
    from mmaction.models import Recognizer2D

    source = inspect.getsource(Recognizer2D.extract_feat)
    return 'for each in x' in source and 'isinstance(x, torch.Tensor)' not in source


def _refuse_single_maps() -> None:
    from mmaction.models import Recognizer2D

    extract_feat = Recognizer2D.extract_feat

    def refuse(backbone, args, output):
        if isinstance(output, torch.Tensor):
            raise ValueError(
                'Recognizer2D: expected two or more maps of the backbone for '
                f'the neck, got one of shape {tuple(output.shape)}. Give the '
                'backbone two out_indices, e.g. out_indices=(2, 3).'
            )

    @wraps(extract_feat)
    def repaired(self, inputs, stage='neck', *args, **kwargs):
        if not self.with_neck or stage == 'backbone':
            return extract_feat(self, inputs, stage, *args, **kwargs)
        hook = self.backbone.register_forward_hook(refuse)
        try:
            return extract_feat(self, inputs, stage, *args, **kwargs)
        finally:
            hook.remove()

    Recognizer2D.extract_feat = repaired


def _writes_in_place() -> bool:
    return 'tempfile' not in inspect.getsource(LocalBackend.put)


def _package_is_unknown() -> bool:
    from mmengine.config.utils import MODULE2PACKAGE

    return 'aia_mmaction' not in MODULE2PACKAGE


def _make_package_known() -> None:
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE['aia_mmaction'] = 'aia_mmaction'


# `drn` comes first: the others import mmaction.models.
REPAIRS: List[Repair] = [
    Repair(
        'drn',
        'mmaction2 imports mmaction.models.localizers.drn, which its '
        'wheel does not contain, so `import mmaction.models` fails',
        drn.is_missing,
        drn.stub_in_memory,
    ),
    Repair(
        'weights_only',
        'torch >= 2.6 refuses the checkpoints that MMEngine writes, so '
        'testing, resuming and load_from fail; older versions, and all of '
        'them from a URL, run whatever code is in a checkpoint',
        _loads_in_its_own_way,
        weights_only.load_weights_only,
    ),
    Repair(
        'bfloat16_loss',
        'BaseHead hands bfloat16 scores to numpy, which has no bfloat16',
        _loss_breaks_on_bfloat16,
        _compute_loss_in_float32,
    ),
    Repair(
        'cpu_amp',
        'MMEngine refuses mixed precision on a CPU, which has bfloat16',
        _amp_refuses_cpu,
        _let_amp_run_on_cpu,
    ),
    Repair(
        'compile',
        'compile=True traces the optimizer step, and dynamo fails on its '
        'settings, clip_grad for one',
        _compile_traces_optimizer,
        _keep_optimizer_out_of_graph,
    ),
    Repair(
        'gloo',
        'MMEngine selects a CUDA device for gloo, and for the wrapper '
        'of a model that is on the CPU, on a machine without one',
        _dist_needs_cuda,
        _let_gloo_start_on_cpu,
    ),
    Repair(
        'max_testing_views',
        'Recognizer2D calls backbone.get() when max_testing_views is '
        'set, which modules of MMEngine do not have',
        _testing_views_break,
        _give_modules_get,
    ),
    Repair(
        'single_map',
        'Recognizer2D with a neck takes the single map of a '
        'backbone for a list along the batch, and fails far from the cause',
        _neck_splits_the_batch,
        _refuse_single_maps,
    ),
    Repair(
        'checkpoints',
        'MMEngine writes a checkpoint where the last one was '
        'deleted, so a run that is killed, or a full disk, leaves half of one '
        'or none to resume from',
        _writes_in_place,
        checkpoints.keep_checkpoints,
    ),
    Repair(
        'config_package',
        "MMEngine's config inheritance by package name knows OpenMMLab's packages only",
        _package_is_unknown,
        _make_package_known,
    ),
    Repair(
        'numpy_names',
        'NumPy 2 has no Inf, NAN, in1d and trapz, which MMAction2 uses: PoseC3D '
        'cannot train, and some metrics fail',
        numpy2.names_are_missing,
        numpy2.give_names_back,
    ),
    Repair(
        'color_jitter',
        'NumPy 2 adds no negative number to unsigned ones, as ColorJitter does '
        'to lower a hue',
        numpy2.hue_cannot_be_lowered,
        numpy2.let_hue_be_lowered,
    ),
]

_made = set()


def disabled_repairs() -> Set[str]:
    """Names of the repairs that the environment variable turns off.

    Raises:
        ValueError: If it names an unknown repair.
    """
    names = {repair.name for repair in REPAIRS}
    disabled = {
        name.strip() for name in os.environ.get(DISABLE_VARIABLE, '').split(',')
    } - {''}
    unknown = disabled - names - {'all'}
    if unknown:
        raise ValueError(
            f'{DISABLE_VARIABLE}: expected "all" or names out of '
            f'{", ".join(sorted(names))}, got {", ".join(sorted(unknown))}.'
        )
    return names if 'all' in disabled else disabled


def apply_repairs() -> List[str]:
    """Repair what is broken, once per process, and log it in one line.

    Returns:
        List[str]: Names of the repairs that were needed and made.
    """
    disabled = disabled_repairs()
    made = []
    for repair in REPAIRS:
        if repair.name not in _made | disabled and repair.is_broken():
            repair.apply()
            made.append(repair.name)
    _made.update(made)
    if made:
        print_log(
            f'aia_mmaction repaired on import: {", ".join(made)} (see the '
            f'README; {DISABLE_VARIABLE}=all turns this off).',
            logger='current',
        )
    return made
