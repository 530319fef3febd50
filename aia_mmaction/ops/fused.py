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
its axis; *argmax* is where along its axis the maximum is. ``G`` is the number
of gates, inner before outer.
"""

import math
from functools import reduce
from itertools import repeat
from typing import Iterable, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .parameters import Parameters, Saved, float_type
from .recompute import restore
from .reference import AXES
from .specification import Specification
from .stencil import conv, conv_weight_grad, scale_and_shift
from .sync import combine_stats, mean_over_all

# Elements of a map that are weighed at a time
SLICE = 2**18
# Vectors of 512 bits
FLOATS_IN_VECTOR = 16


def forward(
    x: Tensor, parameters: Parameters, spec: Specification, backward: bool
) -> Tuple[Tensor, Tensor, Saved]:
    """Reweight a feature map.

    Args:
        x (Tensor): ``[N, C, T, H, W]``; any strides.
        parameters (Parameters): Of the gates.
        spec (Specification): What to compute.
        backward (bool): Whether there will be a backward pass.

    Returns:
        tuple[Tensor, Tensor, Saved]: The output, like ``x``; the statistics
        ``[G, 2]`` used, the variance being the biased one; and what
        :func:`backward` needs of this pass.
    """
    gates = _gates(x, parameters, spec, backward)
    out = _weigh(x, gates[len(spec.inner) :], relu=spec.relu)
    stats = torch.stack([g.stats for g in gates])
    saved = _save(gates) if backward else new_saved(x, spec, False)
    return out, stats, saved


def forward_inplace(x: Tensor, parameters: Parameters, spec: Specification) -> Tensor:
    """Reweight a feature map in place, for no backward pass.

    Args:
        x (Tensor): What :func:`forward` takes, and so are the others.

    Returns:
        Tensor: The statistics.
    """
    gates = _gates(x, parameters, spec, backward=False)
    _weigh(x, gates[len(spec.inner) :], relu=spec.relu, out=x)
    return torch.stack([g.stats for g in gates])


def backward(
    grad: Tensor,
    x: Tensor,
    host_norm: Optional[Tensor],
    parameters: Parameters,
    spec: Specification,
    saved: Saved,
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`forward`.

    Args:
        grad (Tensor): Gradient of the output, of its shape.
        x (Tensor): The input, or what the host norm makes it of.
        host_norm (Tensor, optional): See :func:`.recompute.restore`.
        parameters (Parameters): As in :func:`forward`, with the statistics
            that it returned.
        spec (Specification): As in :func:`forward`. With ``batch_stats``, the
            statistics depend on ``x``.
        saved (Saved): What :func:`forward` returned.

    Returns:
        tuple[Tensor, ...]: Gradients of ``x``, ``weight``, ``scale`` and
        ``shift``.
    """
    dtype, input_dtype = float_type(x), x.dtype
    # Gradients times x can be beyond float16.
    x = restore(x, host_norm).to(dtype)
    grad = grad.to(dtype)
    if spec.relu:
        # The gates are positive, so the output has the sign of x.
        grad = torch.ops.aten.threshold_backward(grad, x, 0)
    gates = _restore_gates(x, parameters, spec, saved)
    inner, outer = gates[: len(spec.inner)], gates[len(spec.inner) :]

    grads_outer = _gates_backward(grad * x, outer, spec)
    grad_x = _weigh(grad, outer)
    grads_inner: List[_Grads] = []
    if inner:
        grad_z = _unpool(torch.zeros_like(x), grads_outer, outer)
        grads_inner = _gates_backward(grad_z * x, inner, spec)
        grad_x += _weigh(grad_z, inner, out=grad_z)
        _unpool(grad_x, grads_inner, inner)
    else:
        _unpool(grad_x, grads_outer, outer)

    grads = grads_inner + grads_outer
    return (
        grad_x.to(input_dtype),
        torch.stack([g.weight for g in grads]).to(parameters.weight.dtype),
        torch.stack([g.scale for g in grads]).to(parameters.scale.dtype),
        torch.stack([g.shift for g in grads]).to(parameters.shift.dtype),
    )


def new_saved(x: Tensor, spec: Specification, backward: bool) -> Saved:
    """What :func:`forward` saves, uninitialised."""
    size = 0
    if backward:
        size = sum(x.numel() // x.shape[AXES[axis][0]] for axis in spec.axes.all())
    return Saved(
        x.new_empty(3 * size, dtype=float_type(x)),
        x.new_empty(size, dtype=_argmax_type(x)),
    )


class _GateParameters(NamedTuple):
    axis: str
    share: float  # of the mean of the gates it is one of
    weight: Tensor  # [1, 2, 3, 3, 3]
    scale: Tensor  # []
    shift: Tensor  # []
    eps: float
    stats: Optional[Tensor]  # [2]
    # The norm with these statistics
    slope: Optional[Tensor]  # []
    offset: Optional[Tensor]  # []


class _Gate(NamedTuple):
    parameters: _GateParameters
    pooled: Tensor  # volume of two channels
    argmax: Optional[Tensor]  # volume
    response: Optional[Tensor]  # volume: convolved, not yet normalised
    gate: Tensor  # volume
    stats: Tensor  # [2]


class _Grads(NamedTuple):
    pooled: Tensor
    weight: Tensor
    scale: Tensor
    shift: Tensor


def _parameters(
    x: Tensor, parameters: Parameters, spec: Specification
) -> List[_GateParameters]:
    """The parameters of each gate, in the precision of what is small."""
    dtype = float_type(x)
    weight, scale, shift = (t.to(dtype) for t in parameters[:3])
    stats = slope = offset = None
    if parameters.stats is not None:
        stats = parameters.stats.to(dtype)
        slope, offset = _slope_and_offset(scale, shift, stats, spec.eps)
    return [
        _GateParameters(
            axis=axis,
            share=1 / len(spec.inner if i < len(spec.inner) else spec.outer),
            weight=weight[i : i + 1],
            scale=scale[i],
            shift=shift[i],
            eps=spec.eps,
            stats=None if stats is None else stats[i],
            slope=None if slope is None else slope[i],
            offset=None if offset is None else offset[i],
        )
        for i, axis in enumerate(spec.axes.all())
    ]


def _argmax_type(x: Tensor) -> torch.dtype:
    """The smallest integers that an axis needs."""
    return torch.uint8 if max(x.shape) <= 2**8 else torch.int32


def _slope_and_offset(
    scale: Tensor, shift: Tensor, stats: Tensor, eps: float
) -> Tuple[Tensor, Tensor]:
    """The norm as a multiplication and an addition."""
    mean, variance = stats.unbind(-1)
    slope = scale * torch.rsqrt(variance + eps)
    return slope, shift - mean * slope


def _gates(
    x: Tensor, parameters: Parameters, spec: Specification, backward: bool
) -> List[_Gate]:
    of_gates = _parameters(x, parameters, spec)
    narrow = x.shape[-1] < FLOATS_IN_VECTOR <= x.shape[1]
    if narrow and x.is_cpu:
        # Channels make the longer rows, of which there are vectors.
        x = x.contiguous(memory_format=torch.channels_last_3d)
    inner = _open(x, of_gates[: len(spec.inner)], spec, backward)
    z = _weigh(x, inner) if inner else x
    return inner + _open(z, of_gates[len(spec.inner) :], spec, backward)


def _open(
    x: Tensor, group: List[_GateParameters], spec: Specification, backward: bool
) -> List[_Gate]:
    """The inner gates, or the outer ones."""
    if not group:
        return []
    pools = [_pool(x, p.axis, p.weight.dtype, backward) for p in group]
    gates = []
    if not spec.batch_stats and not backward:
        # Nothing needs the response: the norm is part of the convolution.
        for p, (pooled, argmax) in zip(group, pools):
            assert p.stats is not None
            gate = conv(pooled, p.weight, p.slope, p.offset).sigmoid_()
            gates.append(_Gate(p, pooled, argmax, None, gate, p.stats))
        return gates
    responses = [conv(pooled, p.weight) for p, (pooled, _) in zip(group, pools)]
    stats = [p.stats for p in group]
    if spec.batch_stats:
        own = torch.stack([_moments(response) for response in responses])
        stats = list(combine_stats(own, _counts(responses), spec.group))
    for p, (pooled, argmax), response, of_gate in zip(group, pools, responses, stats):
        assert of_gate is not None
        gate = _normalise(response, p, of_gate).sigmoid_()
        gates.append(_Gate(p, pooled, argmax, response, gate, of_gate))
    return gates


def _moments(response: Tensor) -> Tensor:
    variance, mean = torch.var_mean(response, correction=0)
    return torch.stack([mean, variance])


def _counts(volumes: Sequence[Tensor]) -> Tensor:
    return volumes[0].new_tensor([volume.numel() for volume in volumes])


def _normalise(response: Tensor, p: _GateParameters, stats: Tensor) -> Tensor:
    slope, offset = p.slope, p.offset
    if slope is None or offset is None:
        slope, offset = _slope_and_offset(p.scale, p.shift, stats, p.eps)
    return scale_and_shift(response, slope, offset)


def _save(gates: List[_Gate]) -> Saved:
    volumes: List[Tensor] = []
    argmaxes: List[Tensor] = []
    for g in gates:
        assert g.response is not None and g.argmax is not None
        volumes += [g.pooled.flatten(), g.response.flatten()]
        argmaxes.append(g.argmax.flatten())
    return Saved(torch.cat(volumes), torch.cat(argmaxes))


def _restore_gates(
    x: Tensor, parameters: Parameters, spec: Specification, saved: Saved
) -> List[_Gate]:
    """The gates from what :func:`_save` made of them."""
    of_gates = _parameters(x, parameters, spec)
    # [N, 1, D1, D2, D3]
    shapes = [
        (x.shape[0], 1) + tuple(x.shape[d] for d in AXES[p.axis][1]) for p in of_gates
    ]
    sizes = [math.prod(shape) for shape in shapes]
    volumes = iter(saved.volumes.split([n for s in sizes for n in (2 * s, s)]))
    argmaxes = saved.argmax.split(sizes)
    gates = []
    for p, shape, argmax in zip(of_gates, shapes, argmaxes):
        pooled = next(volumes).view(shape[:1] + (2,) + shape[2:])
        response = next(volumes).view(shape)
        assert p.stats is not None
        gate = _normalise(response, p, p.stats).sigmoid_()
        gates.append(_Gate(p, pooled, argmax.view(shape), response, gate, p.stats))
    return gates


def _gates_backward(
    product: Tensor, gates: List[_Gate], spec: Specification
) -> List[_Grads]:
    """From the gradient of ``x * mean(gates)``, times ``x``."""
    grads, normed = [], []
    for g in gates:
        p = g.parameters
        assert g.response is not None
        total = product.sum(AXES[p.axis][0], keepdim=True, dtype=p.weight.dtype)
        grad = _to_volume(total, p.axis) * p.share
        grads.append(grad * g.gate * (1 - g.gate))
        normed.append((g.response - g.stats[0]) * torch.rsqrt(g.stats[1] + p.eps))
    # Gradients of scale and shift [G, 2]
    sums = torch.stack(
        [torch.stack([(v * n).sum(), v.sum()]) for v, n in zip(grads, normed)]
    )
    # What depends on the batch: the means of both, if its statistics do
    through = torch.zeros_like(sums)
    if spec.batch_stats:
        through = mean_over_all(sums, _counts(grads), spec.group)
    found = []
    for g, grad, n, of_norm, (scale, shift) in zip(gates, grads, normed, sums, through):
        p = g.parameters
        if spec.batch_stats:
            grad = grad - (shift + n * scale)
        grad = grad * (p.scale * torch.rsqrt(g.stats[1] + p.eps))
        # The transpose of a convolution is one with the kernel turned round.
        pooled = conv(grad, p.weight.flip(2, 3, 4).transpose(0, 1))
        found.append(_Grads(pooled, conv_weight_grad(g.pooled, grad), *of_norm))
    return found


def _pool(
    x: Tensor, axis: str, dtype: torch.dtype, with_argmax: bool
) -> Tuple[Tensor, Optional[Tensor]]:
    """Maximum and mean along an axis, as a volume of two channels."""
    dim = AXES[axis][0]
    maximum, mean, argmax = _pool_map(x, dim, dtype, with_argmax)
    if argmax is not None:
        argmax = _to_volume(argmax, axis).to(_argmax_type(x))
    # 2 x map -> [N, 2, D1, D2, D3]
    pooled = [_to_volume(t.to(dtype), axis) for t in (maximum, mean)]
    return torch.cat(pooled, dim=1), argmax


_Pools = Tuple[Tensor, Tensor, Optional[Tensor]]


def _pool_map(x: Tensor, dim: int, dtype: torch.dtype, with_argmax: bool) -> _Pools:
    # PyTorch writes a result in the order of the axes, whatever that of x in
    # memory, and is slow where they differ.
    order = sorted(range(x.dim()), key=x.stride, reverse=True)
    back = [order.index(d) for d in range(x.dim())]
    x, dim = x.permute(order), order.index(dim)
    mean = x.mean(dim, keepdim=True, dtype=dtype).permute(back)
    if not with_argmax:
        return _amax(x, dim).permute(back), mean, None
    maximum, argmax = x.max(dim, keepdim=True)
    return maximum.permute(back), mean, argmax.permute(back)


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
        axis = gate.parameters.axis
        dim = AXES[axis][0]
        # [N, 2, D1, D2, D3] -> 2 x map
        maximum, mean = (
            _from_volume(g, axis).to(into.dtype) for g in grad.pooled.split(1, dim=1)
        )
        into += mean / into.shape[dim]
        assert gate.argmax is not None
        argmax = _from_volume(gate.argmax, axis)
        into.scatter_add_(dim, argmax.long(), maximum)
    return into


def _weigh(
    x: Tensor, gates: List[_Gate], relu: bool = False, out: Optional[Tensor] = None
) -> Tensor:
    """``x`` times the mean of the gates, written to ``out`` if given."""
    # 1 to 3 x map
    factors = [
        _from_volume(g.gate, g.parameters.axis) * g.parameters.share for g in gates
    ]
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


def _to_volume(x: Tensor, axis: str) -> Tensor:
    # [N, C, T, H, W] with size 1 at dim -> [N, 1, D1, D2, D3]
    dim, rest = AXES[axis]
    return x.permute(0, dim, *rest)


def _from_volume(volume: Tensor, axis: str) -> Tensor:
    # [N, 1, D1, D2, D3] -> [N, C, T, H, W] with size 1 at dim
    dim, rest = AXES[axis]
    order = (0, dim) + rest
    return volume.permute([order.index(d) for d in range(5)])
