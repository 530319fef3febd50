"""The weights and the statistics of a layer's gates, packed into a few tensors.

A *gate module* has a ``conv`` from two channels to one and a ``norm`` of that
channel. ``G`` is the number of gates, inner before outer.
"""

from functools import partial
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import reference
from .reference import Gate
from .specification import Specification


class Parameters(NamedTuple):
    """Of all gates of a layer."""

    weight: Tensor  # kernels of the convolutions [G, 2, 3, 3, 3]
    scale: Tensor  # weights of the norms [G]
    shift: Tensor  # biases of the norms [G]
    # Mean and variance to normalise with [G, 2]. None in a forward pass that
    # makes them of the batch; a backward pass is given those.
    stats: Optional[Tensor]


class Saved(NamedTuple):
    """What is small and slow to compute again in a backward pass.

    Everything lies behind each other in one axis, gate by gate. A path may
    leave both empty and compute them again.
    """

    volumes: Tensor  # the pooled volume and the response of the convolution
    argmax: Tensor  # where along the gate's axis the maximum is


def float_type(x: Tensor) -> torch.dtype:
    """Of all that is small: half precision is for what is as large as ``x``."""
    return torch.promote_types(x.dtype, torch.float32)


class GateModule(NamedTuple):
    """A gate module and what is looked at of it in every call.

    Read from the dictionaries of :class:`torch.nn.Module`, since its attributes
    take ten times as long.
    """

    gate: Any
    conv: Any
    norm: Any
    weight: Tensor
    scale: Optional[Tensor]
    shift: Optional[Tensor]
    mean: Optional[Tensor]
    variance: Optional[Tensor]
    num_batches_tracked: Optional[Tensor]
    uses_batch_stats: bool  # instead of the running ones


def read_gate(gate: Any) -> GateModule:
    """Look into a gate module."""
    conv: Any = gate._modules['conv']
    norm: Any = gate._modules['norm']
    mean = look_up(norm, norm._buffers, 'running_mean')
    return GateModule(
        gate,
        conv,
        norm,
        look_up(conv, conv._parameters, 'weight'),
        look_up(norm, norm._parameters, 'weight'),
        look_up(norm, norm._parameters, 'bias'),
        mean,
        look_up(norm, norm._buffers, 'running_var'),
        look_up(norm, norm._buffers, 'num_batches_tracked'),
        norm.training or mean is None,
    )


def look_up(module: Any, tensors: Mapping[str, Any], name: str) -> Any:
    """A tensor of a module, by its dictionary where it is there.

    In a replica of DataParallel, and under FSDP, it is a plain attribute.
    """
    return tensors[name] if name in tensors else getattr(module, name, None)


def pack(gates: Sequence[GateModule]) -> Parameters:
    """The parameters of gates, differentiable; they have all of them."""
    stats = None
    if not gates[0].uses_batch_stats:
        running: Any = [t for gate in gates for t in (gate.mean, gate.variance)]
        stats = torch.cat(running).view(-1, 2)
    scale: Any = [gate.scale for gate in gates]
    shift: Any = [gate.shift for gate in gates]
    weight = torch.cat([gate.weight for gate in gates])
    return Parameters(weight, torch.cat(scale), torch.cat(shift), stats)


def unpack(parameters: Parameters, spec: Specification) -> Dict[str, Gate]:
    """The gates as functions, for :func:`.reference.attention`."""
    weight, scale, shift, stats = parameters
    gates: Dict[str, Gate] = {}
    for i, axis in enumerate(spec.axes.all()):
        # Statistics of the batch are to depend on it.
        given = None if spec.batch_stats else stats
        mean, variance = (None, None) if given is None else given[i].split(1)
        norm = partial(
            F.batch_norm,
            running_mean=mean,
            running_var=variance,
            weight=scale[i : i + 1],
            bias=shift[i : i + 1],
            training=spec.batch_stats,
            eps=spec.eps,
        )
        conv = partial(F.conv3d, weight=weight[i : i + 1], padding=1)
        gates[axis] = partial(reference.context_gate, axis=axis, conv=conv, norm=norm)
    return gates


@torch.no_grad()
def update_running_stats(
    gates: Sequence[GateModule], stats: Tensor, counts: Sequence[int]
) -> None:
    """Update the running statistics of gates, as batch norms do themselves.

    Args:
        gates (Sequence[GateModule]): Their norms may be in either mode.
        stats (Tensor): Mean and biased variance of the batch, ``[G, 2]``.
        counts (Sequence[int]): How many values they are of.
    """
    # Each [1] and dense, as the buffers: PyTorch has one launch for all of them.
    means, variances = (row.split(1) for row in stats.t().contiguous())
    updated = [
        (gate, mean, variance, count / (count - 1))
        for gate, mean, variance, count in zip(gates, means, variances, counts)
        if gate.norm.training and gate.mean is not None
    ]
    if not updated:
        return
    of_gates, means, variances, factors = zip(*updated)
    unbiased = torch._foreach_mul(variances, factors)
    running: Any = [*(g.mean for g in of_gates), *(g.variance for g in of_gates)]
    new = [t.to(r.dtype) for r, t in zip(running, [*means, *unbiased])]
    batches: Any = [gate.num_batches_tracked for gate in of_gates]
    torch._foreach_add_(batches, 1)
    momenta = [gate.norm.momentum for gate in of_gates]
    if None not in momenta and len(set(momenta)) == 1:
        torch._foreach_lerp_(running, new, momenta[0])
        return
    for i, (old, value) in enumerate(zip(running, new)):
        momentum = momenta[i % len(momenta)]
        if momentum is None:  # a cumulative average
            momentum = 1 / batches[i % len(momenta)].to(old.dtype)
        old.lerp_(value, momentum)
