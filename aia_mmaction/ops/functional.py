"""The attention as one function of a feature map and gate modules.

Folding of clips, packing of weights and running statistics are settled here;
below it there is a :class:`.Specification` and a few tensors.
"""

from typing import Mapping, Optional

import torch
from torch import Tensor, nn

from . import reference, sync
from .clips import from_clips, to_clips
from .dispatch import has_hooks, is_compiling
from .parameters import GateModule, Parameters, pack, update_running_stats
from .reference import AXES, GateAxes
from .specification import Specification


def attention(
    x: Tensor,
    path: str,
    axes: GateAxes,
    gates: Mapping[str, GateModule],
    num_segments: Optional[int] = None,
    activation: Optional[nn.Module] = None,
) -> Tensor:
    """Reweight a feature map.

    Args:
        x (Tensor): ``[N, C, T, H, W]``, or ``[N * T, C, H, W]`` with
            ``T = num_segments``; any floating-point dtype.
        path (str): What computes it; see :func:`.choose`.
        axes (GateAxes): A row of :data:`.LAYERS`.
        gates (Mapping[str, GateModule]): Those of these axes.
        num_segments (int, optional): Frames per clip of 4-D input.
        activation (nn.Module, optional): What the output goes through. One
            that works in place may overwrite ``x`` where no gradients are
            needed. Defaults to None.

    Returns:
        Tensor: The shape of ``x``.
    """
    if path == 'reference':
        out = _by_reference(to_clips(x, num_segments or 0), axes, gates)
        out = from_clips(out, x)
        return out if activation is None else activation(out)
    return _by_operator(x, path, axes, gates, num_segments or 0, activation)


def _by_reference(x: Tensor, axes: GateAxes, gates: Mapping[str, GateModule]) -> Tensor:
    weight = gates[axes.outer[0]].weight
    functions = {axis: gate.gate for axis, gate in gates.items()}
    if x.dtype != torch.float16 or weight is None or weight.dtype == x.dtype:
        return reference.attention(x, axes, functions)
    # Autocast to float16, gradients times x would overflow.
    with torch.autocast(x.device.type, enabled=False):
        return reference.attention(x.float(), axes, functions).to(x.dtype)


def _by_operator(
    x: Tensor,
    path: str,
    axes: GateAxes,
    gates: Mapping[str, GateModule],
    num_segments: int,
    activation: Optional[nn.Module],
) -> Tensor:
    from . import operator  # torch >= 2.4

    of_axes = [gates[axis] for axis in axes.all()]
    parameters = pack(of_axes)
    relu = type(activation) is nn.ReLU and not has_hooks(activation)
    batch_stats = of_axes[0].uses_batch_stats
    eps = of_axes[0].norm.eps
    group = sync.group_of(of_axes[0].norm)
    spec = Specification(*axes, num_segments, eps, batch_stats, relu, group)
    backward = _needs_backward(x, parameters)
    inplace = getattr(activation, 'inplace', False) and not backward
    if inplace and not is_compiling():
        out, stats = x, operator.attention_inplace(x, parameters, spec, path)
    else:
        out, stats = operator.attention(x, parameters, spec, backward, path)
    if batch_stats:
        shape = to_clips(x, num_segments).shape
        # All processes have as many clips.
        size = shape.numel() * sync.world_size(group)
        counts = [size // shape[AXES[axis][0]] for axis in axes.all()]
        update_running_stats(of_axes, stats, counts)
    return out if relu or activation is None else activation(out)


def _needs_backward(x: Tensor, parameters: Parameters) -> bool:
    trained = x, parameters.weight, parameters.scale, parameters.shift
    return torch.is_grad_enabled() and any(t.requires_grad for t in trained)
