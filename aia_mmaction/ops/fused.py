"""The attention in few passes over ``x``, forward and backward.

Everything is the same mathematics as :mod:`.reference`, for all layers at
once. A layer has an *outer* set of axes, whose gates multiply ``x``, and
perhaps an *inner* set, whose gates refine what the outer ones see::

    z   = x * mean(gates of the inner axes of x)     (z = x without any)
    out = x * mean(gates of the outer axes of z)

What costs the reference its time is avoided here:

- A ``Conv3d`` from two channels to one is slow everywhere. As a ``Conv2d``
  over blocks of one axis, whose weight repeats the kernel along a band, it has
  enough channels for the libraries to be fast (:func:`_conv`).
- The mean of the three outer gates is never written down.
- The backward pass (:func:`backward`) is given ``x`` and what is small of the
  rest. It is written out by hand, because differentiating :func:`forward`
  would make a full-size tensor of each term.

A NaN or an infinity in ``x`` reaches more of the gates than in the reference:
the zeros of the band meet it too.

Shapes: ``x`` is ``[N, C, T, H, W]``; a *volume* is ``[N, channels, D1, D2,
D3]`` in the order of :data:`.reference.AXES`; a *map* is ``x`` with size 1 at
its axis. ``G`` is the number of gates, inner before outer.
"""
import math
from typing import List, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .reference import AXES

# Slices of the banded axis that one Conv2d computes: with the one on either
# side it needs, and two pooled channels, it reads 32 channels.
BLOCK = 14


def forward(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor,
            stats: Optional[Tensor], eps: float, inner: str, outer: str,
            keep: bool) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Reweight a feature map.

    Args:
        x (Tensor): ``[N, C, T, H, W]``, any strides.
        weight (Tensor): Kernels of the gates, ``[G, 2, 3, 3, 3]``.
        scale (Tensor): Weights of the norms, ``[G]``.
        shift (Tensor): Biases of the norms, ``[G]``.
        stats (Tensor, optional): Mean and variance ``[G, 2]`` to normalise
            with; None for those of the batch.
        eps (float): Added to the variance.
        inner (str): Axes of the inner gates, ``''``, ``'C'`` or ``'THW'``.
        outer (str): Axes of the outer gates.
        keep (bool): Whether there will be a backward pass.

    Returns:
        tuple[Tensor, ...]: The output, like ``x``; the statistics ``[G, 2]``
        used, the variance being the biased one; and to keep for the backward
        pass, one behind the other, what the gates were made of and the places
        of the maxima (see :func:`_keep`).
    """
    parameters = _parameters(x, weight, scale, shift, stats, eps)
    split = len(inner)
    z, inner_gates = x, []
    if inner:
        inner_gates = _gates(x, inner, parameters[:split], keep)
        z = _weigh(x, inner_gates)
    outer_gates = _gates(z, outer, parameters[split:], keep)
    out = _weigh(x, outer_gates)
    gates = inner_gates + outer_gates
    return (out, torch.stack([g.stats for g in gates]),
            *_keep(x, gates if keep else []))


def backward(grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor,
             shift: Tensor, stats: Tensor, kept: Tensor, places: Tensor,
             batch_stats: bool, eps: float, inner: str,
             outer: str) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`forward`.

    Args:
        grad (Tensor): Gradient of the output, ``[N, C, T, H, W]``.
        stats (Tensor): What :func:`forward` returned, and so are ``kept`` and
            ``places``.
        batch_stats (bool): Whether they are those of the batch, and hence
            depend on ``x``.

    Returns:
        tuple[Tensor, ...]: Gradients of ``x``, ``weight``, ``scale`` and
        ``shift``.
    """
    parameters = _parameters(x, weight, scale, shift, stats, eps)
    gates = _restore(x, inner, outer, parameters, kept, places)
    inner_gates, outer_gates = gates[:len(inner)], gates[len(inner):]

    grads_outer = _gates_backward(grad * x, outer_gates, batch_stats)
    grad_x = _weigh(grad, outer_gates)
    if inner:
        grad_z = _unpool(torch.zeros_like(x), grads_outer, outer_gates)
        grads_inner = _gates_backward(grad_z * x, inner_gates, batch_stats)
        _weigh(grad_z, inner_gates, into=grad_x)
        _unpool(grad_x, grads_inner, inner_gates)
    else:
        grads_inner = []
        _unpool(grad_x, grads_outer, outer_gates)

    grads = grads_inner + grads_outer
    return (grad_x, torch.stack([g.weight for g in grads]).to(weight.dtype),
            torch.stack([g.scale for g in grads]).to(scale.dtype),
            torch.stack([g.shift for g in grads]).to(shift.dtype))


class _Parameters(NamedTuple):
    weight: Tensor  # [1, 2, 3, 3, 3]
    scale: Tensor  # []
    shift: Tensor  # []
    stats: Optional[Tensor]  # [2]
    eps: float


class _Gate(NamedTuple):
    axis: str
    parameters: _Parameters
    pooled: Tensor  # volume of two channels
    places: Optional[Tensor]  # volume: where along the axis the maximum is
    response: Tensor  # volume: convolved, not yet normalised
    gate: Tensor  # volume
    stats: Tensor  # [2]
    share: float  # of the mean of the gates it is one of


class _Grads(NamedTuple):
    pooled: Tensor
    weight: Tensor
    scale: Tensor
    shift: Tensor


def _parameters(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor,
                stats: Optional[Tensor], eps: float) -> List[_Parameters]:
    # Half precision is for what is large; the gates are small.
    dtype = torch.promote_types(x.dtype, torch.float32)
    weight, scale, shift = (t.to(dtype) for t in (weight, scale, shift))
    stats = [None] * len(weight) if stats is None else stats.to(dtype)
    return [
        _Parameters(weight[i:i + 1], scale[i], shift[i], stats[i], eps)
        for i in range(len(weight))
    ]


def _gates(x: Tensor, axes: str, parameters: List[_Parameters],
           keep: bool) -> List[_Gate]:
    return [
        _gate(x, axis, p, keep, 1 / len(axes))
        for axis, p in zip(axes, parameters)
    ]


def _gate(x: Tensor, axis: str, p: _Parameters, keep: bool,
          share: float) -> _Gate:
    pooled, places = _pool(x, axis, p.weight.dtype, keep)
    response = _conv(pooled, p.weight)
    stats = p.stats
    if stats is None:
        stats = torch.stack(torch.var_mean(response, correction=0)[::-1])
    gate = _norm_and_sigmoid(response, stats, p)
    return _Gate(axis, p, pooled, places, response, gate, stats, share)


def _norm_and_sigmoid(response: Tensor, stats: Tensor,
                      p: _Parameters) -> Tensor:
    # The norm as one multiply-add
    slope = p.scale * torch.rsqrt(stats[1] + p.eps)
    offset = p.shift - stats[0] * slope
    return torch.addcmul(offset, response, slope).sigmoid()


def _keep(x: Tensor, gates: List[_Gate]) -> Tuple[Tensor, Tensor]:
    """What is small and slow to compute again, in two tensors of one axis:
    the pooled volumes and responses, and the places of the maxima."""
    if not gates:
        dtype = torch.promote_types(x.dtype, torch.float32)
        return x.new_empty(0, dtype=dtype), x.new_empty(0, dtype=torch.int16)
    kept = [t.flatten() for g in gates for t in (g.pooled, g.response)]
    places = [g.places.flatten().to(_place_type(x)) for g in gates]
    return torch.cat(kept), torch.cat(places)


def _restore(x: Tensor, inner: str, outer: str, parameters: List[_Parameters],
             kept: Tensor, places: Tensor) -> List[_Gate]:
    """The gates from what :func:`_keep` made of them."""
    shapes = [
        x.shape[:1] + (1, ) + tuple(x.shape[d] for d in AXES[axis][1])
        for axis in inner + outer
    ]
    sizes = [math.prod(shape) for shape in shapes]
    kept = kept.split([n for size in sizes for n in (2 * size, size)])
    places = places.split(sizes)
    gates = []
    for i, (axis, p, shape) in enumerate(zip(inner + outer, parameters,
                                             shapes)):
        pooled, response = kept[2 * i:2 * i + 2]
        pooled = pooled.view(shape[:1] + (2, ) + shape[2:])
        response = response.view(shape)
        gate = _norm_and_sigmoid(response, p.stats, p)
        share = 1 / len(inner if i < len(inner) else outer)
        gates.append(
            _Gate(axis, p, pooled, places[i].view(shape), response, gate,
                  p.stats, share))
    return gates


def _place_type(x: Tensor) -> torch.dtype:
    return torch.int16 if max(x.shape) < 2**15 else torch.int32


def _gates_backward(product: Tensor, gates: List[_Gate],
                    batch_stats: bool) -> List[_Grads]:
    """From the gradient of ``x * mean(gates)``, times ``x``."""
    return [_gate_backward(product, gate, batch_stats) for gate in gates]


def _gate_backward(product: Tensor, g: _Gate, batch_stats: bool) -> _Grads:
    p = g.parameters
    dim = AXES[g.axis][0]
    grad = _to_volume(product.sum(dim, keepdim=True, dtype=p.weight.dtype),
                      g.axis) * g.share
    deviation = torch.rsqrt(g.stats[1] + p.eps)
    normed = (g.response - g.stats[0]) * deviation
    grad = grad * g.gate * (1 - g.gate)
    shift, scale = grad.sum(), (grad * normed).sum()
    if batch_stats:
        grad = grad - (shift + normed * scale) / grad.numel()
    grad = grad * (p.scale * deviation)
    # The transpose of a convolution is one with the kernel turned round.
    pooled = _conv(grad, p.weight.flip(2, 3, 4).transpose(0, 1))
    return _Grads(pooled, _conv_weight_grad(g.pooled, grad), scale, shift)


def _pool(x: Tensor, axis: str, dtype: torch.dtype,
          with_places: bool) -> Tuple[Tensor, Optional[Tensor]]:
    """Maximum and mean along an axis, as a volume of two channels."""
    dim = AXES[axis][0]
    if with_places:
        maximum, places = x.max(dim, keepdim=True)
        places = _to_volume(places, axis)
    else:
        maximum, places = x.amax(dim, keepdim=True), None
    mean = x.mean(dim, keepdim=True, dtype=dtype)
    # 2 x map -> [N, 2, D1, D2, D3]
    pooled = [_to_volume(t.to(dtype), axis) for t in (maximum, mean)]
    return torch.cat(pooled, dim=1), places


def _unpool(into: Tensor, grads: List[_Grads], gates: List[_Gate]) -> Tensor:
    """Add the gradient that reaches a map through its pools."""
    for grad, gate in zip(grads, gates):
        dim = AXES[gate.axis][0]
        # [N, 2, D1, D2, D3] -> 2 x map
        maximum, mean = (_from_volume(g, gate.axis).to(into.dtype)
                         for g in grad.pooled.split(1, dim=1))
        into += mean / into.shape[dim]
        places = _from_volume(gate.places, gate.axis)
        if torch.compiler.is_compiling():
            # A comparison fuses with its neighbours; a scatter does not.
            shape = [-1 if d == dim else 1 for d in range(5)]
            along = torch.arange(into.shape[dim],
                                 dtype=places.dtype,
                                 device=into.device)
            into += torch.where(along.view(shape) == places, maximum, 0)
        else:
            into.scatter_add_(dim, places.long(), maximum)
    return into


def _weigh(x: Tensor,
           gates: List[_Gate],
           into: Optional[Tensor] = None) -> Tensor:
    """``x`` times the mean of the gates, added to ``into`` if given."""
    for gate in gates:
        factor = _from_volume(gate.gate, gate.axis).to(x.dtype)
        if into is None:
            into = x * (factor * gate.share)
        else:
            into.addcmul_(x, factor, value=gate.share)
    return into


def _to_volume(x: Tensor, axis: str) -> Tensor:
    # [N, C, T, H, W] with size 1 at dim -> [N, 1, D1, D2, D3]
    dim, rest = AXES[axis]
    return x.permute(0, dim, *rest)


def _from_volume(volume: Tensor, axis: str) -> Tensor:
    # [N, 1, D1, D2, D3] -> [N, C, T, H, W] with size 1 at dim
    dim, rest = AXES[axis]
    order = (0, dim) + rest
    return volume.permute([order.index(d) for d in range(5)])


def _conv(volume: Tensor, weight: Tensor) -> Tensor:
    """3x3x3 convolution, padding 1, ``weight [O, I, 3, 3, 3]``.

    D1 is cut into blocks, a batch of images ``D2 x D3`` whose channels are the
    slices of a block, so that a slice and its two neighbours are three
    channels of one image.
    """
    n, _, d1, d2, d3 = volume.shape
    out = F.conv2d(_blocks(volume), _band(weight, d1), padding=1)
    return _from_blocks(out.unflatten(1, (weight.shape[0], -1)), n, d1)


def _conv_weight_grad(volume: Tensor, grad: Tensor) -> Tensor:
    """Gradient ``[2, 3, 3, 3]`` of the kernel of one gate."""
    images = _blocks(volume)
    block, halo = _block(volume.shape[2])
    grad = _to_blocks(grad, block, 0)
    like_band = images.new_empty(block, images.shape[1], 3, 3)
    band = torch.ops.aten.convolution_backward(grad, images, like_band, None,
                                               [1, 1], [1, 1], [1, 1], False,
                                               [0, 0], 1,
                                               [False, True, False])[1]
    # [block, 2 * slices, 3, 3] -> [block, block + 2, 2, 3, 3], whose row b has
    # the kernel at b, b + 1, b + 2
    band = band.unflatten(1, (2, -1)).transpose(1, 2)
    band = F.pad(band, (0, 0) * 3 + (1 - halo, 1 - halo))
    # Rows one longer put the kernels below each other, as in _band.
    band = F.pad(band.flatten(0, 1), (0, 0) * 3 + (0, block))
    band = band.unflatten(0, (block, block + 3))
    return band[:, :3].sum(0).transpose(0, 1)


def _block(d1: int) -> Tuple[int, int]:
    """Slices in a block, and how many of its neighbours' it needs."""
    return (d1, 0) if d1 <= BLOCK else (BLOCK, 1)


def _blocks(volume: Tensor) -> Tensor:
    return _to_blocks(volume, *_block(volume.shape[2]))


def _to_blocks(volume: Tensor, block: int, halo: int) -> Tensor:
    """``[N, I, D1, D2, D3]`` to ``[N * blocks, I * (block + 2 * halo), D2,
    D3]``, with ``halo`` slices of the neighbours at each end, zeros beyond
    the volume."""
    d1 = volume.shape[2]
    blocks = -(-d1 // block)
    if blocks == 1:
        return volume.flatten(1, 2)
    padding = (halo, blocks * block - d1 + halo)
    volume = F.pad(volume, (0, 0, 0, 0) + padding)
    # -> [N, I, blocks, D2, D3, slices] -> [N, blocks, I, slices, D2, D3]
    volume = volume.unfold(2, block + 2 * halo, block)
    return volume.permute(0, 2, 1, 5, 3, 4).flatten(0, 1).flatten(1, 2)


def _from_blocks(images: Tensor, n: int, d1: int) -> Tensor:
    # [N * blocks, O, block, D2, D3] -> [N, O, D1, D2, D3]
    if len(images) == n:
        return images
    images = images.unflatten(0, (n, -1)).transpose(1, 2)
    return images.flatten(2, 3)[:, :, :d1]


def _band(weight: Tensor, d1: int) -> Tensor:
    """``[O, I, 3, 3, 3]`` to ``[O * block, I * (block + 2 * halo), 3, 3]``.

    With halo, output slice b sees the input slices b, b + 1 and b + 2, by the
    first, middle and last planes of the kernel. A row of the band is as long
    as the kernel with ``block - 1`` zeros; written one zero longer, without a
    gap, each row starts one further right than the row above.
    """
    block, halo = _block(d1)
    # [O, I, 3, 3, 3] -> [3, O, I, 3, 3] -> [block + 3, O, I, 3, 3]
    rows = F.pad(weight.permute(2, 0, 1, 3, 4), (0, 0) * 4 + (0, block))
    rows = rows.expand(block, *rows.shape).flatten(0, 1)
    band = rows[:block * (block + 2)].unflatten(0, (block, block + 2))
    if not halo:  # a single block: what lies beyond it is zero
        band = band[:, 1:-1]
    # [block, slices, O, I, 3, 3] -> [O, block, I, slices, 3, 3]
    return band.permute(2, 0, 3, 1, 4, 5).flatten(0, 1).flatten(1, 2)
