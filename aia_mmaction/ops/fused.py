"""The attention in few passes over ``x``, forward and backward.

Everything is the same mathematics as :mod:`.reference`, for all layers at
once. A layer has an *outer* set of axes, whose gates multiply ``x``, and
perhaps an *inner* set, whose gates refine what the outer ones see::

    z   = x * mean(gates of the inner axes of x)     (z = x without any)
    out = x * mean(gates of the outer axes of z)

What costs the reference its time is avoided here:

- A ``Conv3d`` from two channels to one is slow everywhere; see
  :mod:`.stencil`.
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
from functools import reduce
from itertools import repeat
from typing import Iterable, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .clips import from_clips, to_clips
from .recompute import restore
from .reference import AXES
from .stencil import conv, conv_weight_grad, scale_and_shift

# Elements of a map that are weighed at a time
SLICE = 2**18
# Vectors of 512 bits
FLOATS_IN_VECTOR = 16


def forward(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    stats: Optional[Tensor],
    eps: float,
    inner: str,
    outer: str,
    num_segments: int,
    relu: bool,
    keep: bool,
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Reweight a feature map.

    Args:
        x (Tensor): ``[N, C, T, H, W]``, or ``[N * T, C, H, W]`` with
            ``T = num_segments``; any strides.
        weight (Tensor): Kernels of the gates, ``[G, 2, 3, 3, 3]``.
        scale (Tensor): Weights of the norms, ``[G]``.
        shift (Tensor): Biases of the norms, ``[G]``.
        stats (Tensor, optional): Mean and variance ``[G, 2]`` to normalise
            with; None for those of the batch.
        eps (float): Added to the variance.
        inner (str): Axes of the inner gates, ``''``, ``'C'`` or ``'THW'``.
        outer (str): Axes of the outer gates.
        num_segments (int): Frames per clip of 4-D input; any for 5-D.
        relu (bool): Whether the output goes through a ReLU.
        keep (bool): Whether there will be a backward pass.

    Returns:
        tuple[Tensor, ...]: The output, like ``x``; the statistics ``[G, 2]``
        used, the variance being the biased one; and to keep for the backward
        pass, one behind the other, what the gates were made of and the places
        of the maxima (see :func:`_keep`).
    """
    parameters = _parameters(x, weight, scale, shift, stats, eps)
    folded, x = x, to_clips(x, num_segments)
    gates = _gates(x, inner, outer, parameters, keep)
    out = _weigh(x, gates[len(inner) :], relu=relu)
    return (
        from_clips(out, folded),
        torch.stack([g.stats for g in gates]),
        *_keep(x, gates if keep else []),
    )


def forward_inplace(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    stats: Optional[Tensor],
    eps: float,
    inner: str,
    outer: str,
    num_segments: int,
    relu: bool,
) -> Tensor:
    """Reweight a feature map in place, for no backward pass.

    Args:
        x (Tensor): What :func:`forward` takes, and so are the others.

    Returns:
        Tensor: The statistics.
    """
    parameters = _parameters(x, weight, scale, shift, stats, eps)
    x = to_clips(x, num_segments)
    gates = _gates(x, inner, outer, parameters, keep=False)
    _weigh(x, gates[len(inner) :], relu=relu, out=x)
    return torch.stack([g.stats for g in gates])


def backward(
    grad: Tensor,
    x: Tensor,
    affine: Optional[Tensor],
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    stats: Tensor,
    kept: Tensor,
    places: Tensor,
    batch_stats: bool,
    eps: float,
    inner: str,
    outer: str,
    num_segments: int,
    relu: bool,
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`forward`.

    Args:
        grad (Tensor): Gradient of the output, of its shape.
        x (Tensor), affine (Tensor, optional): The input, or what
            :func:`.recompute.restore` makes it of.
        stats (Tensor): What :func:`forward` returned, and so are ``kept`` and
            ``places``.
        batch_stats (bool): Whether they are those of the batch, and hence
            depend on ``x``.

    Returns:
        tuple[Tensor, ...]: Gradients of ``x``, ``weight``, ``scale`` and
        ``shift``.
    """
    parameters = _parameters(x, weight, scale, shift, stats, eps)
    # Gradients times x can be beyond float16.
    dtype = parameters[0].weight.dtype
    folded, x = x, to_clips(restore(x, affine), num_segments).to(dtype)
    grad = to_clips(grad, num_segments).to(dtype)
    if relu:
        # The gates are positive, so the output has the sign of x.
        grad = torch.ops.aten.threshold_backward(grad, x, 0)
    gates = _restore(x, inner, outer, parameters, kept, places)
    inner_gates, outer_gates = gates[: len(inner)], gates[len(inner) :]

    grads_outer = _gates_backward(grad * x, outer_gates, batch_stats)
    grad_x = _weigh(grad, outer_gates)
    if inner:
        grad_z = _unpool(torch.zeros_like(x), grads_outer, outer_gates)
        grads_inner = _gates_backward(grad_z * x, inner_gates, batch_stats)
        grad_x += _weigh(grad_z, inner_gates, out=grad_z)
        _unpool(grad_x, grads_inner, inner_gates)
    else:
        grads_inner = []
        _unpool(grad_x, grads_outer, outer_gates)

    grads = grads_inner + grads_outer
    weights, scales, shifts = (
        torch.stack(t) for t in zip(*[(g.weight, g.scale, g.shift) for g in grads])
    )
    return (
        from_clips(grad_x, folded).to(folded.dtype),
        weights.to(weight.dtype),
        scales.to(scale.dtype),
        shifts.to(shift.dtype),
    )


class _Parameters(NamedTuple):
    weight: Tensor  # [1, 2, 3, 3, 3]
    scale: Tensor  # []
    shift: Tensor  # []
    stats: Optional[Tensor]  # [2]
    affine: Optional[Tuple[Tensor, Tensor]]  # the norm's, with these
    eps: float


class _Gate(NamedTuple):
    axis: str
    parameters: _Parameters
    pooled: Tensor  # volume of two channels
    places: Optional[Tensor]  # volume: where along the axis the maximum is
    response: Optional[Tensor]  # volume: convolved, not yet normalised
    gate: Tensor  # volume
    stats: Tensor  # [2]
    share: float  # of the mean of the gates it is one of


class _Grads(NamedTuple):
    pooled: Tensor
    weight: Tensor
    scale: Tensor
    shift: Tensor


def _parameters(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    stats: Optional[Tensor],
    eps: float,
) -> List[_Parameters]:
    # Half precision is for what is large; the gates are small.
    dtype = torch.promote_types(x.dtype, torch.float32)
    weight, scale, shift = (t.to(dtype) for t in (weight, scale, shift))
    of_gates = zip(weight.split(1), scale, shift)
    if stats is None:
        return [_Parameters(*p, None, None, eps) for p in of_gates]
    stats = stats.to(dtype)
    affines = zip(*_affine(scale, shift, stats, eps))
    return [
        _Parameters(*p, of_gate, affine, eps)
        for p, of_gate, affine in zip(of_gates, stats, affines)
    ]


def _affine(
    scale: Tensor, shift: Tensor, stats: Tensor, eps: float
) -> Tuple[Tensor, Tensor]:
    """The norm as a multiplication and an addition."""
    mean, variance = stats.unbind(-1)
    slope = scale * torch.rsqrt(variance + eps)
    return slope, shift - mean * slope


def _gates(
    x: Tensor, inner: str, outer: str, parameters: List[_Parameters], keep: bool
) -> List[_Gate]:
    narrow = x.shape[-1] < FLOATS_IN_VECTOR <= x.shape[1]
    if narrow and x.is_cpu and not torch.compiler.is_compiling():
        # Channels make the longer rows, of which there are vectors.
        x = x.contiguous(memory_format=torch.channels_last_3d)
    gates: List[_Gate] = []
    z = x
    for axis, p in zip(inner + outer, parameters):
        if inner and len(gates) == len(inner):
            z = _weigh(x, gates)
        share = 1 / len(inner if len(gates) < len(inner) else outer)
        gates.append(_gate(z, axis, p, keep, share))
    return gates


def _gate(x: Tensor, axis: str, p: _Parameters, keep: bool, share: float) -> _Gate:
    pooled, places = _pool(x, axis, p.weight.dtype, keep)
    stats, affine = p.stats, p.affine
    if stats is not None and affine is not None and not keep:
        # Nothing needs the response: the norm is part of the convolution.
        gate = conv(pooled, p.weight, affine).sigmoid_()
        return _Gate(axis, p, pooled, places, None, gate, stats, share)
    response = conv(pooled, p.weight)
    if stats is None:
        stats = torch.stack(torch.var_mean(response, correction=0)[::-1])
    gate = _normalise(response, p, stats).sigmoid_()
    return _Gate(axis, p, pooled, places, response, gate, stats, share)


def _normalise(response: Tensor, p: _Parameters, stats: Tensor) -> Tensor:
    affine = p.affine or _affine(p.scale, p.shift, stats, p.eps)
    return scale_and_shift(response, *affine)


def _keep(x: Tensor, gates: List[_Gate]) -> Tuple[Tensor, Tensor]:
    """What is small and slow to compute again, in two tensors of one axis:
    the pooled volumes and responses, and the places of the maxima.
    """
    if not gates:
        dtype = torch.promote_types(x.dtype, torch.float32)
        return x.new_empty(0, dtype=dtype), x.new_empty(0, dtype=place_type(x))
    kept, places = [], []
    for g in gates:
        assert g.response is not None and g.places is not None
        kept += [g.pooled.flatten(), g.response.flatten()]
        places.append(g.places.flatten().to(place_type(x)))
    return torch.cat(kept), torch.cat(places)


def _restore(
    x: Tensor,
    inner: str,
    outer: str,
    parameters: List[_Parameters],
    kept: Tensor,
    places: Tensor,
) -> List[_Gate]:
    """The gates from what :func:`_keep` made of them."""
    shapes = [
        x.shape[:1] + (1,) + tuple(x.shape[d] for d in AXES[axis][1])
        for axis in inner + outer
    ]
    sizes = [math.prod(shape) for shape in shapes]
    kept_of = kept.split([n for size in sizes for n in (2 * size, size)])
    places_of = places.split(sizes)
    gates = []
    for i, (axis, p, shape) in enumerate(zip(inner + outer, parameters, shapes)):
        pooled, response = kept_of[2 * i : 2 * i + 2]
        pooled = pooled.view(shape[:1] + (2,) + shape[2:])
        response = response.view(shape)
        assert p.stats is not None
        gate = _normalise(response, p, p.stats).sigmoid_()
        share = 1 / len(inner if i < len(inner) else outer)
        place = places_of[i].view(shape)
        gates.append(_Gate(axis, p, pooled, place, response, gate, p.stats, share))
    return gates


def place_type(x: Tensor) -> torch.dtype:
    """The smallest integers of which the compiler makes vectors."""
    return torch.uint8 if max(x.shape) <= 2**8 else torch.int32


def _gates_backward(
    product: Tensor, gates: List[_Gate], batch_stats: bool
) -> List[_Grads]:
    """From the gradient of ``x * mean(gates)``, times ``x``."""
    return [_gate_backward(product, gate, batch_stats) for gate in gates]


def _gate_backward(product: Tensor, g: _Gate, batch_stats: bool) -> _Grads:
    p = g.parameters
    dim = AXES[g.axis][0]
    grad = (
        _to_volume(product.sum(dim, keepdim=True, dtype=p.weight.dtype), g.axis)
        * g.share
    )
    deviation = torch.rsqrt(g.stats[1] + p.eps)
    assert g.response is not None
    normed = (g.response - g.stats[0]) * deviation
    grad = grad * g.gate * (1 - g.gate)
    shift, scale = grad.sum(), (grad * normed).sum()
    if batch_stats:
        grad = grad - (shift + normed * scale) / grad.numel()
    grad = grad * (p.scale * deviation)
    # The transpose of a convolution is one with the kernel turned round.
    pooled = conv(grad, p.weight.flip(2, 3, 4).transpose(0, 1))
    return _Grads(pooled, conv_weight_grad(g.pooled, grad), scale, shift)


def _pool(
    x: Tensor, axis: str, dtype: torch.dtype, with_places: bool
) -> Tuple[Tensor, Optional[Tensor]]:
    """Maximum and mean along an axis, as a volume of two channels."""
    dim = AXES[axis][0]
    if torch.compiler.is_compiling():
        maximum, mean, places = _pool_compiled(x, dim, dtype, with_places)
    else:
        maximum, mean, places = _pool_eager(x, dim, dtype, with_places)
    if places is not None:
        places = _to_volume(places, axis)
    # 2 x map -> [N, 2, D1, D2, D3]
    pooled = [_to_volume(t.to(dtype), axis) for t in (maximum, mean)]
    return torch.cat(pooled, dim=1), places


_Pools = Tuple[Tensor, Tensor, Optional[Tensor]]


def _pool_compiled(
    x: Tensor, dim: int, dtype: torch.dtype, with_places: bool
) -> _Pools:
    mean = x.mean(dim, keepdim=True, dtype=dtype)
    if not with_places:
        return x.amax(dim, keepdim=True), mean, None
    # The compiler makes no vectors of max() with indices, nor of whole
    # numbers; the first of equal maxima is what max() takes, too. It does not
    # round what it does not write down, but the maximum it does.
    x = x.to(dtype)
    maximum = x.amax(dim, keepdim=True)
    places = torch.where(x == maximum, _along(x, dim), x.shape[dim])
    return maximum, mean, places.amin(dim, keepdim=True)


def _pool_eager(x: Tensor, dim: int, dtype: torch.dtype, with_places: bool) -> _Pools:
    # PyTorch writes a result in the order of the axes, whatever that of x in
    # memory, and is slow where they differ.
    order = sorted(range(x.dim()), key=x.stride, reverse=True)
    back = [order.index(d) for d in range(x.dim())]
    x, dim = x.permute(order), order.index(dim)
    mean = x.mean(dim, keepdim=True, dtype=dtype).permute(back)
    if not with_places:
        return _amax(x, dim).permute(back), mean, None
    maximum, places = x.max(dim, keepdim=True)
    return maximum.permute(back), mean, places.permute(back)


def _amax(x: Tensor, dim: int) -> Tensor:
    # Over the last two axes, amax() makes no vectors on CPUs where rows are
    # not whole ones; the elementwise maximum of two halves does, which share
    # the middle of an odd size.
    rows = x.shape[-1] % (2 * FLOATS_IN_VECTOR)
    while dim > 2 and rows and x.shape[dim] > 8:
        half = -(-x.shape[dim] // 2)
        x = torch.maximum(
            x.narrow(dim, 0, half), x.narrow(dim, x.shape[dim] - half, half)
        )
    return x.amax(dim, keepdim=True)


def _unpool(into: Tensor, grads: List[_Grads], gates: List[_Gate]) -> Tensor:
    """Add the gradient that reaches a map through its pools."""
    for grad, gate in zip(grads, gates):
        dim = AXES[gate.axis][0]
        # [N, 2, D1, D2, D3] -> 2 x map
        maximum, mean = (
            _from_volume(g, gate.axis).to(into.dtype)
            for g in grad.pooled.split(1, dim=1)
        )
        into += mean / into.shape[dim]
        assert gate.places is not None
        places = _from_volume(gate.places, gate.axis)
        if torch.compiler.is_compiling():
            # A comparison fuses with its neighbours; a scatter does not.
            here = _along(into, dim) == places.to(torch.float32)
            into += torch.where(here, maximum, 0)
        else:
            into.scatter_add_(dim, places.long(), maximum)
    return into


def _weigh(
    x: Tensor, gates: List[_Gate], relu: bool = False, out: Optional[Tensor] = None
) -> Tensor:
    """``x`` times the mean of the gates, written to ``out`` if given."""
    # 1 to 3 x map
    factors = [_from_volume(g.gate, g.axis) * g.share for g in gates]
    if torch.compiler.is_compiling():
        product = (x * reduce(torch.add, factors)).to(x.dtype)
        product = product.relu() if relu else product
        return product if out is None else out.copy_(product)
    if out is None:
        out = torch.empty_like(x)
    # Slice by slice, the mean of the gates stays in the cache.
    dim = 2 if x.stride(2) > x.stride(1) else 1
    size = max(1, SLICE * x.shape[dim] // x.numel())
    parts: List[Iterable[Tensor]] = [
        f.split(size, dim) if f.shape[dim] > 1 else repeat(f) for f in factors
    ]
    for into, part, *of_part in zip(out.split(size, dim), x.split(size, dim), *parts):
        torch.mul(part, reduce(torch.add, of_part), out=into)
        if relu:
            into.relu_()
    return out


def _along(x: Tensor, dim: int) -> Tensor:
    """0, 1, ... along ``dim``, of size 1 along the others."""
    shape = [-1 if d == dim else 1 for d in range(x.dim())]
    return torch.arange(x.shape[dim], dtype=torch.float32, device=x.device).view(shape)


def _to_volume(x: Tensor, axis: str) -> Tensor:
    # [N, C, T, H, W] with size 1 at dim -> [N, 1, D1, D2, D3]
    dim, rest = AXES[axis]
    return x.permute(0, dim, *rest)


def _from_volume(volume: Tensor, axis: str) -> Tensor:
    # [N, 1, D1, D2, D3] -> [N, C, T, H, W] with size 1 at dim
    dim, rest = AXES[axis]
    order = (0, dim) + rest
    return volume.permute([order.index(d) for d in range(5)])
