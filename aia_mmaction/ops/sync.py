"""Statistics over the processes of a distributed run, as of SyncBatchNorm.

Two numbers per gate go around forward, and two backward.
"""

from typing import Any, Dict

import torch
import torch.distributed as dist
from torch import Tensor, nn

# Process groups by name, since operators take no others.
_groups: Dict[str, Any] = {}


def group_of(norm: nn.Module) -> str:
    """The name of the process group that a norm in training has its statistics
    over; ``''`` if it is alone.
    """
    if not isinstance(norm, nn.SyncBatchNorm) or not norm.training:
        return ''
    if not dist.is_available() or not dist.is_initialized():
        return ''
    group = norm.process_group or dist.group.WORLD
    if dist.get_world_size(group) == 1:
        return ''
    name = f'group {id(group)}'
    _groups[name] = group
    return name


def world_size(name: str) -> int:
    """How many processes a group has; 1 for no group."""
    return dist.get_world_size(_groups[name]) if name else 1


def combine_stats(stats: Tensor, counts: Tensor, name: str) -> Tensor:
    """Mean and biased variance of all processes' values.

    Args:
        stats (Tensor): Those of this process's, ``[G, 2]``.
        counts (Tensor): How many values they are of, ``[G]``.
        name (str): Of the group; ``''`` changes nothing.
    """
    if not name:
        return stats
    own = torch.cat([stats, counts.to(stats)[:, None]], 1).contiguous()
    found = [torch.empty_like(own) for _ in range(world_size(name))]
    dist.all_gather(found, own, group=_groups[name])
    # [processes, G]
    means, variances, numbers = torch.stack(found).unbind(-1)
    total = numbers.sum(0)
    mean = (means * numbers).sum(0) / total
    # Not E[x^2] - E[x]^2, which would cancel
    squares = (variances + (means - mean) ** 2) * numbers
    return torch.stack([mean, squares.sum(0) / total], 1)


def mean_over_all(sums: Tensor, counts: Tensor, name: str) -> Tensor:
    """Sums ``[G, 2]`` of this process's values to the means of all processes'."""
    if name:
        total = torch.cat([sums, counts.to(sums)[:, None]], 1).contiguous()
        dist.all_reduce(total, group=_groups[name])
        sums, counts = total[:, :2], total[:, 2]
    return sums / counts.to(sums)[:, None]
