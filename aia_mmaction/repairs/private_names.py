"""Every private name of other packages that this one uses.

What can be asked publicly is asked so. For the rest, this is the one list: what
each is for, and what becomes of that in a version that no longer has it. The
doctor says which are gone.
"""

from importlib import import_module
from typing import Any, Callable, Iterator, NamedTuple, Tuple, Union

from .requirements import Problem


class PrivateName(NamedTuple):
    """One or more names of one owner."""

    owner: Union[str, Callable[[], Any]]  # module.attribute, or what makes one
    names: Tuple[str, ...]
    used_for: str
    without: str
    only: str = ''  # versions that have it, if not all

    def missing(self) -> Tuple[str, ...]:
        """Those that the owner does not have."""
        owner = self.owner() if callable(self.owner) else _find(self.owner)
        return tuple(name for name in self.names if not hasattr(owner, name))


def _find(path: str) -> Any:
    """A module, or an attribute of one."""
    module, _, attribute = path.rpartition('.')
    try:
        return import_module(path)
    except ImportError:
        return getattr(import_module(module), attribute, None) if module else None


def _node(training: bool) -> Any:
    """What autograd makes of a batch norm."""
    import torch

    # Nothing is computed on this device: OpenMP's threads, once they are there, would
    # have every process that is forked later wait for them forever.
    with torch.device('meta'):
        norm = torch.nn.BatchNorm1d(1).train(training)
        return norm(torch.zeros(2, 1, 1, requires_grad=True)).grad_fn


PRIVATE_NAMES = (
    PrivateName(
        'torch.nn.Module',
        ('_apply',),
        'channels_last of a 2-D network with attention',
        'Module.to(memory_format=torch.channels_last) raises the error of PyTorch',
    ),
    PrivateName(
        lambda: import_module('torch').nn.Module(),
        (
            '_forward_hooks',
            '_forward_pre_hooks',
            '_backward_hooks',
            '_backward_pre_hooks',
        ),
        'hooks on a convolution or norm of a gate, which must be called',
        'layers take the reference, which calls them, and log that',
    ),
    PrivateName(
        lambda: import_module('torch').nn.Module(),
        ('_buffers', '_modules', '_parameters'),
        'reading the gates of a layer, ten times as fast as by attributes',
        'an AttributeError at the first forward pass',
    ),
    PrivateName(
        'torch.nn.Module',
        ('_register_load_state_dict_pre_hook',),
        'counting the keys that a checkpoint lacks',
        'not needed',
        only='torch < 2.5',
    ),
    PrivateName(
        'torch.Tensor',
        ('_version',),
        'saving what the norm before an attention layer saves, not its input',
        'about 6 % more memory in training, and a warning',
    ),
    PrivateName(
        lambda: _node(training=True),
        (
            '_saved_eps',
            '_saved_input',
            '_saved_result1',
            '_saved_result2',
            '_saved_training',
            '_saved_weight',
        ),
        'the same, and counting the memory that training saves',
        'the same; the count is too low',
    ),
    PrivateName(
        lambda: _node(training=False),
        ('_saved_running_mean', '_saved_running_var'),
        'the same, of norms in evaluation mode',
        'the same',
    ),
    PrivateName(
        'torch._C._functorch',
        ('peek_interpreter_stack',),
        'torch.func, for which layers take the reference',
        'torch.func raises an error where impl is not reference',
    ),
    PrivateName(
        'torch.autograd.forward_ad',
        ('_current_level',),
        'forward-mode differentiation, for which layers take the reference',
        'it raises an error where impl is not reference',
    ),
    PrivateName(
        'torch._dynamo',
        ('is_compiling',),
        'telling whether a model is being compiled',
        'not needed',
        only='torch < 2.4',
    ),
    PrivateName(
        'torch.distributed.distributed_c10d',
        ('_get_default_store',),
        'one decision of all processes on kernels that one of them found wrong',
        'each decides by itself',
    ),
    PrivateName(
        'torch',
        ('_foreach_add_', '_foreach_lerp_', '_foreach_mul'),
        'running statistics of all gates of a layer at once',
        'training raises an AttributeError',
    ),
    PrivateName(
        'torch._utils',
        ('_rebuild_tensor_v2',),
        'tensors in the dumps of mim test',
        'a dump with tensors is refused',
    ),
    PrivateName(
        'torch._weights_only_unpickler',
        ('_get_allowed_globals',),
        'loading checkpoints as data',
        'not needed',
        only='torch < 2.6',
    ),
    PrivateName(
        lambda: import_module('.weights_only', __package__).multiarray(),
        ('_reconstruct',),
        'arrays in checkpoints',
        'a checkpoint with arrays is refused',
    ),
    PrivateName(
        'mmengine.runner.checkpoint.CheckpointLoader',
        ('_get_checkpoint_loader',),
        'trying each loader of checkpoints',
        'checkpoints are refused',
    ),
    PrivateName(
        'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler',
        ('_annealing_cos', '_annealing_linear'),
        'resuming a one-cycle schedule',
        'its checkpoint is refused',
    ),
    PrivateName(
        'mmengine.hooks.CheckpointHook',
        ('_save_checkpoint_with_step', '_save_best_checkpoint'),
        'deleting the oldest checkpoint after the newest is written',
        'MMEngine deletes it before; a run that is killed may lose both',
    ),
    PrivateName(
        'mmaction.datasets.transforms.Flip',
        ('_flip_imgs',),
        'mirroring optical flow',
        'it is mirrored wrongly, see the repair flow_flip',
    ),
    PrivateName(
        'mmengine.dist.utils',
        ('_init_dist_pytorch',),
        'distributed runs on CPUs',
        'MMEngine raises its error of a missing CUDA device',
    ),
)

# Marks on functions: set, or looked for after PyTorch has set it.
MARKS = {
    '_dynamo_marked_constant': 'on dispatch._is_exporting; without, torch.compile of '
    'torch 2.7 takes the reference',
    '_torchdynamo_disable': 'on OptimWrapper.update_params; without, it is disabled '
    'once more in every run',
}


def find_gone() -> Iterator[Problem]:
    """What this installation no longer has, and what becomes of it."""
    for entry in PRIVATE_NAMES:
        if not entry.only and entry.missing():
            names = ', '.join(entry.missing())
            yield Problem(f'no {names}, for {entry.used_for}', entry.without)
