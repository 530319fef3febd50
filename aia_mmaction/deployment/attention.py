"""Attention layers of standard operators, which other runtimes run fast.

An exported model cannot have the kernels of :mod:`aia_mmaction.ops`, and runtimes
are slow at the reference's ``Conv3d`` from two channels to one. Here it is a
``Conv2d`` whose channels are slices of the map, with a weight that repeats the
kernel along a band and has the norm folded in.
"""

import copy
from typing import Any, Dict, List, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aia_mmaction import ops
from aia_mmaction.layers import ContextAttention
from aia_mmaction.ops.stencil import band

# Slices of which one convolution is, where there are more
BLOCK = 16


def export_attention(model: nn.Module, inputs: Tensor) -> nn.Module:
    """A copy of a model whose attention layers are :class:`ExportedAttention`.

    A layer stays as it is if its gates are not the paper's (``impl='fused'`` says
    why), have no running statistics, or see inputs of several shapes.

    Args:
        model (nn.Module): In evaluation mode.
        inputs (Tensor): What it takes, of the shape that it will get, but for the
            batch.
    """
    model = copy.deepcopy(model)
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, ContextAttention)
    }
    seen: Dict[nn.Module, List[Tensor]] = {layer: [] for layer in layers.values()}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, args: seen[layer].append(args[0]))
        for layer in layers.values()
    ]
    with torch.no_grad():
        model(inputs)
    for hook in hooks:
        hook.remove()
    for name, layer in layers.items():
        if _can_be_exported(layer, seen[layer]):
            parent, _, child = name.rpartition('.')
            exported = ExportedAttention(layer, seen[layer][0].shape)
            setattr(model.get_submodule(parent), child, exported.eval())
    return model


def _can_be_exported(layer: ContextAttention, inputs: Sequence[Tensor]) -> bool:
    if len({x.shape[1:] for x in inputs}) != 1:
        return False
    gates = layer._gates()
    try:
        ops.choose('fused', inputs[0], layer.axes, gates, layer.num_segments)
    except RuntimeError:
        return False
    return not any(gate.uses_batch_stats for gate in gates.values())


class ExportedAttention(nn.Module):
    """A layer in evaluation mode, for inputs of one shape but for the batch.

    Args:
        layer (ContextAttention): Its norms have running statistics.
        shape (Sequence[int]): Of an input, ``[N, C, T, H, W]`` or
            ``[N * T, C, H, W]``.
    """

    def __init__(self, layer: ContextAttention, shape: Sequence[int]) -> None:
        super().__init__()
        self.inner, self.outer = layer.axes
        self.num_segments = layer.num_segments or 0
        # 4-D input is taken as [N, T, C, H, W], which is a view of it.
        self.order = 'NCTHW' if len(shape) == 5 else 'NTCHW'
        sizes = dict(zip(self.order if len(shape) == 5 else 'NCHW', shape))
        sizes['T'] = sizes.get('T', self.num_segments)
        for axis, gate in layer._gates().items():
            weight, bias = _fold(gate)
            order = self._map_order(axis)
            # [1, 2, 3, 3, 3] in the order of AXES to that of the map
            given = ['NCTHW'[d] for d in ops.AXES[axis][1]]
            weight = weight.permute(0, 1, *(2 + given.index(a) for a in order))
            repeated = band(weight, sizes[order[0]], BLOCK)
            self.register_buffer(f'band_{axis}', repeated)
            self.register_buffer(f'bias_{axis}', bias.expand(len(repeated)).clone())

    def forward(self, x: Tensor, activation: Any = None) -> Tensor:
        """Reweight a feature map of the shape."""
        frames = x if x.dim() == 5 else x.reshape(-1, self.num_segments, *x.shape[1:])
        z = self._weigh(frames, frames, self.inner) if self.inner else frames
        out = self._weigh(frames, z, self.outer).reshape(x.shape)
        return out if activation is None else activation(out)

    def _weigh(self, x: Tensor, seen: Tensor, axes: str) -> Tensor:
        """``x`` times the mean of the gates of what they see."""
        gates = [self._gate(seen, axis) for axis in axes]
        if len(axes) > 1:
            # The mean, of what is smaller than x
            gates = [gate * (1 / len(axes)) for gate in gates]
        return x * sum(gates[1:], gates[0])

    def _map_order(self, axis: str) -> str:
        """The axes of a gate's map, T first: that of the band, if it is there."""
        return ''.join(sorted(self.order[1:].replace(axis, ''), key='TCHW'.index))

    def _gate(self, x: Tensor, axis: str) -> Tensor:
        dim = self.order.index(axis)
        swap = self.order == 'NCTHW' and axis in 'HW'  # to have T first
        maps = [x.amax(dim), x.mean(dim)]
        if swap:
            maps = [m.transpose(1, 2) for m in maps]
        gate = _convolve(
            maps, getattr(self, f'band_{axis}'), getattr(self, f'bias_{axis}')
        )
        gate = gate.sigmoid()
        return (gate.transpose(1, 2) if swap else gate).unsqueeze(dim)


def _fold(gate: Any) -> Tuple[Tensor, Tensor]:
    """The kernel ``[1, 2, 3, 3, 3]`` and the bias ``[1]`` of a gate's convolution
    and norm together.
    """
    slope = gate.scale / torch.sqrt(gate.variance + gate.norm.eps)
    return gate.weight * slope, gate.shift - gate.mean * slope


def _convolve(maps: List[Tensor], weight: Tensor, bias: Tensor) -> Tensor:
    """Two maps ``[N, D1, D2, D3]`` to one.

    Not by :mod:`.ops.stencil`, whose ``unfold`` is a slice for each block in ONNX.
    """
    size, block = maps[0].shape[1], len(weight)
    if block == size:
        return F.conv2d(torch.cat(maps, 1), weight, bias, padding=1)
    blocks = -(-size // block)
    # 2 x [N, D1, D2, D3] -> [N, blocks, 2, block, D2, D3]
    x = torch.stack(
        [
            F.pad(m, (0, 0, 0, 0, 0, blocks * block - size)).unflatten(
                1, (blocks, block)
            )
            for m in maps
        ],
        2,
    )
    # The neighbours' slices; beyond the first and the last block there are zeros.
    before = F.pad(x[:, :-1, :, -1:], (0, 0) * 4 + (1, 0))
    behind = F.pad(x[:, 1:, :, :1], (0, 0) * 4 + (0, 1))
    x = torch.cat([before, x, behind], 3)
    # -> [N * blocks, 2 * (block + 2), D2, D3] -> [N * blocks, block, D2, D3]
    x = F.conv2d(x.flatten(2, 3).flatten(0, 1), weight, bias, padding=1)
    return x.unflatten(0, (-1, blocks)).flatten(1, 2)[:, :size]
