"""The attention on CUDA, with the kernels of :mod:`.kernels`.

The same functions as in :mod:`..fused`. What is as large as ``x`` is read and
written as seldom as its dependencies allow; the names and shapes of what lies
between are explained in :mod:`.kernels`:

- Forward, each gate group reads ``x`` once for all its pools, and ``x`` times
  the inner gates is computed on the fly; then ``x`` is read and the output
  written.
- Backward, the same reads of ``x`` make the pools again, now with the argmax,
  and the outer one reads ``grad`` as well for the sums of
  ``grad * x``; nested layers read ``x`` once more for their inner gates; then
  ``grad`` is read and the gradient of ``x`` written.

float64 is not supported: everything is computed in float32.
"""

import math
from contextlib import nullcontext
from itertools import accumulate
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..parameters import Parameters, Saved
from ..recompute import restore
from ..specification import Specification
from ..sync import combine_stats, mean_over_all
from . import kernels

# Most pixels per side of the tiles that are reduced: up to 64 x 64 the maps of
# H and W need no merging. Where the channels are innermost in memory, a tile
# has 16 of them, for whole sectors of memory, and room for fewer pixels.
SIDE, SIDE_CHANNELS_LAST = 64, 16
# Elements of a tile that is reduced over C
ELEMENTS = 4096
# Most programs of a gate: so many that they fill any device, and so few that
# each of them can add up what all others have found.
ROWS = 1024
# Offsets from here on need 64 bits.
WIDE = 2**31


def forward(
    x: Tensor, parameters: Parameters, spec: Specification, backward: bool
) -> Tuple[Tensor, Tensor, Saved]:
    """As :func:`..fused.forward`, for float16, bfloat16 and float32.

    Nothing is saved for :func:`backward`, which computes it again.
    """
    out = torch.empty_like(x)
    stats = _forward(x, out, parameters, spec)
    return out, stats, new_saved(x, spec, backward)


def forward_inplace(x: Tensor, parameters: Parameters, spec: Specification) -> Tensor:
    """As :func:`..fused.forward_inplace`."""
    return _forward(x, x, parameters, spec)


def backward(
    grad: Tensor,
    x: Tensor,
    host_norm: Optional[Tensor],
    parameters: Parameters,
    spec: Specification,
    saved: Saved,
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """As :func:`..fused.backward`, whatever was saved."""
    assert parameters.stats is not None
    x = restore(x, host_norm)
    grad_x = torch.empty_like(x)
    # The kernels know one layout of all that has the shape of the output.
    if grad.dtype != x.dtype or grad.stride() != grad_x.stride():
        grad = torch.empty_like(x).copy_(grad)
    plan = _plan(x, grad_x)
    groups = _groups(plan, parameters, spec)
    stats = parameters.stats.float().split([len(g) for g in groups])
    made: List[_Gates] = []
    gates = None
    for group, of_group in zip(groups, stats):
        pooled, argmax = _pool(
            plan,
            group,
            x,
            gates,
            grad if group is groups[-1] else None,
            relu=spec.relu,
            with_argmax=True,
        )
        gates, response = _gates(
            plan, group, pooled, of_group, with_response=True, eps=spec.eps
        )
        made.append(_Gates(group, pooled, argmax, response, gates, of_group))

    # The sums of grad * x lie behind those of x.
    products = made[-1].pooled[2]
    backs: List[_Back] = []
    grads_of_parameters: List[Tuple[Tensor, Tensor]] = []
    for each in reversed(made):
        if backs:
            products = _unpooled_products(plan, each.group, x, backs[-1])
        grads, grad_weight, grad_norm = _grad_gates(plan, each, products, spec)
        backs.append(_Back(each.group, grads, each.argmax, each.gates))
        grads_of_parameters.insert(0, (grad_weight, grad_norm))
    _grad_x(plan, groups[-1], grad, x, backs, grad_x, spec.relu)
    weights, norms = (torch.cat(parts) for parts in zip(*grads_of_parameters))
    weight, scale, shift, _ = parameters
    # Copies, as results of an operator must not share memory
    return (
        grad_x,
        weights.view_as(weight).to(weight.dtype),
        norms[:, 0].to(scale.dtype, copy=True),
        norms[:, 1].to(shift.dtype, copy=True),
    )


def new_saved(x: Tensor, spec: Specification, backward: bool) -> Saved:
    """Nothing, in two empty tensors."""
    return Saved(x.new_empty(0, dtype=torch.float32), x.new_empty(0, dtype=torch.int32))


def _forward(
    x: Tensor, out: Tensor, parameters: Parameters, spec: Specification
) -> Tensor:
    plan = _plan(x, out)
    groups = _groups(plan, parameters, spec)
    # A copy of given statistics, or room for those of the batch
    stats = x.new_empty(len(spec.axes.all()), 2, dtype=torch.float32)
    if parameters.stats is not None:
        stats.copy_(parameters.stats)
    gates = None
    for group, of_group in zip(groups, stats.split([len(g) for g in groups])):
        pooled, _ = _pool(plan, group, x, gates)
        gates, _ = _gates(
            plan, group, pooled, of_group, spec.batch_stats, spec.eps, sync=spec.group
        )
    assert gates is not None  # a layer has an outer group
    _weigh(plan, groups[-1], x, gates, out, spec.relu)
    return stats


class _Plan(NamedTuple):
    """What all launches for one input have in common."""

    shape: Tuple[int, ...]  # N, C, T, H, W
    x: Tuple[int, ...]  # strides of x
    y: Tuple[int, ...]  # of the output and the gradients
    channels_last: bool
    base_h: int
    base_w: int
    int_type: Any


class _Group(NamedTuple):
    """The inner gates, or the outer ones: one or three."""

    axes: str
    weight: Tensor  # [G, 2, 3, 3, 3], float32, as the others
    scale: Tensor  # [G]
    shift: Tensor  # [G]
    length: int  # elements of all maps
    first: int  # program where the second gate begins
    second: int  # and the third
    programs: int
    steps: int  # items of a program
    rows: int  # most programs of a gate
    programs_of: Tuple[int, ...]  # each gate

    def __len__(self) -> int:
        return len(self.axes)


class _Gates(NamedTuple):
    group: _Group
    pooled: Tensor  # [planes, length or more]
    argmax: Optional[Tensor]  # [length or more]
    response: Optional[Tensor]  # [length], convolved, not yet normalised
    gates: Tensor  # [length]
    stats: Tensor  # [G, 2]


class _Back(NamedTuple):
    group: _Group
    grads: Tensor  # [2, length]
    argmax: Optional[Tensor]
    gates: Tensor


# ---------------------------------------------------------------------------
# Plans
# ---------------------------------------------------------------------------
def _plan(x: Tensor, y: Tensor) -> _Plan:
    if x.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise TypeError(
            'expected float16, bfloat16 or float32, got '
            f'{x.dtype}; use another path for it.'
        )
    n, c, t, h, w = x.shape
    # The stride of an axis of one element says nothing.
    strides = [
        tuple(s if size > 1 else 0 for size, s in zip(each.shape, each.stride()))
        for each in (x, y)
    ]
    # [N, C, H, W], [N, T, C, W] and [N, T, C, H]
    base_h, base_w, maps = accumulate((n * c * h * w, n * t * c * w, n * t * c * h))
    # Three planes of maps, with their parts where there are several tiles
    ends = [3 * (2 * maps + x.numel())]
    for each in strides:
        ends.append(sum((size - 1) * s for size, s in zip(x.shape, each)))
    return _Plan(
        shape=(n, c, t, h, w),
        x=strides[0],
        y=strides[1],
        channels_last=strides[0][1] == 1,
        base_h=base_h,
        base_w=base_w,
        int_type=tl.int64 if max(ends) >= WIDE else tl.int32,
    )


def _groups(
    plan: _Plan, parameters: Parameters, spec: Specification
) -> Tuple[_Group, ...]:
    weight, scale, shift = (t.float().contiguous() for t in parameters[:3])
    groups = []
    begin = 0
    for axes in spec.axes:
        if not axes:
            continue
        gates = slice(begin, begin + len(axes))
        groups.append(
            _Group(
                axes, weight[gates], scale[gates], shift[gates], **_geometry(plan, axes)
            )
        )
        begin = gates.stop
    return tuple(groups)


def _geometry(plan: _Plan, axes: str) -> Dict[str, Any]:
    """From ``length`` to ``programs_of`` of a :class:`_Group`."""
    n, c, t, h, w = plan.shape
    sizes = dict(C=t * h * w, T=c * h * w, H=t * c * w, W=t * c * h)
    items = [n * triton.cdiv(sizes[a], kernels.BLOCK.value) for a in axes]
    steps = triton.cdiv(max(items), ROWS)
    programs = [triton.cdiv(i, steps) for i in items]
    return dict(
        length=n * sum(sizes[a] for a in axes),
        first=programs[0],
        second=sum(programs[:2]),
        programs=sum(programs),
        steps=steps,
        rows=max(programs),
        programs_of=tuple(programs),
    )


def _block(size: int, limit: int) -> int:
    return min(int(triton.next_power_of_2(size)), max(1, limit))


def _pixel_block(plan: _Plan) -> Dict[str, int]:
    """A tile to reduce over C: long where memory is dense."""
    n, c, t, h, w = plan.shape
    if plan.channels_last:
        bc = _block(c, ELEMENTS // 8)
        bp = _block(h * w, ELEMENTS // bc)
    else:
        bp = _block(h * w, 64)
        # Few frames of few pixels: narrower, so that all of the device works
        while bp > 16 and n * t * triton.cdiv(h * w, bp) < 256:
            bp //= 2
        bc = _block(c, ELEMENTS // bp)
    return dict(BC=bc, BP=bp)


def _reduction_tile(plan: _Plan) -> Dict[str, int]:
    """A tile to reduce over T, H and W: all pixels of a frame, if possible."""
    n, c, t, h, w = plan.shape
    side = SIDE_CHANNELS_LAST if plan.channels_last else SIDE
    bh, bw = _block(h, side), _block(w, side)
    bc = _block(c, 16 if plan.channels_last else 1024 // (bh * bw))
    return dict(BC=bc, BH=bh, BW=bw)


def _product_tile(plan: _Plan) -> Dict[str, int]:
    """A tile of 1024 elements, as long as possible where memory is dense."""
    n, c, t, h, w = plan.shape
    if plan.channels_last:
        bc = _block(c, 64)
        bw = _block(w, 1024 // bc)
        bh = _block(h, 1024 // bc // bw)
    else:
        bw = _block(w, 64)
        bh = _block(h, 1024 // bw)
        bc = _block(c, 1024 // bw // bh)
    return dict(BC=bc, BH=bh, BW=bw)


def _tiles(plan: _Plan, tile: Dict[str, int]) -> int:
    n, c, t, h, w = plan.shape
    blocks = triton.cdiv(c, tile['BC']), triton.cdiv(h, tile['BH'])
    return int(n * blocks[0] * blocks[1] * triton.cdiv(w, tile['BW']))


# ---------------------------------------------------------------------------
# Launches
# ---------------------------------------------------------------------------
def _launch(kernel: Any, programs: int, **arguments: Any) -> None:
    device = next(a.device for a in arguments.values() if isinstance(a, Tensor))
    # Triton launches on the current device, not on that of its arguments.
    with torch.cuda.device(device) if device.type == 'cuda' else nullcontext():
        kernel[(programs,)](**arguments)


def _warps(elements: int) -> int:
    """8 elements per thread, so that sums, maxima and argmax stay in
    registers.
    """
    return max(4, min(16, elements // 256))


def _layout(plan: _Plan) -> Dict[str, Any]:
    """Arguments of all kernels that work on tiles of ``x``."""
    _, c, t, h, w = plan.shape
    arguments: Dict[str, Any] = dict(C=c, T=t, H=h, W=w, INT=plan.int_type)
    for prefix, strides in (('X', plan.x), ('Y', plan.y)):
        for axis, stride in zip('NCTHW', strides):
            arguments[prefix + axis] = stride
    return arguments


def _pixel_stride(plan: _Plan, strides: Tuple[int, ...]) -> Optional[int]:
    h, w = plan.shape[3:]
    if w == 1:
        return strides[3]
    if h == 1 or strides[3] == w * strides[4]:
        return strides[4]
    return None


def _reduce(
    plan: _Plan,
    group: _Group,
    planes: int,
    x: Tensor,
    grad: Optional[Tensor] = None,
    gates: Optional[Tensor] = None,
    back: Optional[_Back] = None,
    relu: bool = False,
    with_argmax: bool = False,
) -> Tuple[Tensor, Optional[Tensor]]:
    """Reduce ``x`` over the axes of a group, with ``back`` by ``UNPOOL``."""
    n, c, t, h, w = plan.shape
    arguments = dict(
        x=x,
        grad=grad,
        gates=gates,
        grads=back.grads if back else None,
        argmax=back.argmax if back else None,
        grads_length=back.group.length if back else 0,
        UNPOOL=back is not None,
        RELU=relu,
        **_layout(plan),
    )

    def outputs(length: int) -> Tuple[Tensor, Optional[Tensor]]:
        return (
            x.new_empty(planes, length, dtype=torch.float32),
            x.new_empty(length, dtype=torch.int32) if with_argmax else None,
        )

    if group.axes == 'C':
        tile = _pixel_block(plan)
        out, argmax = outputs(group.length)
        _launch(
            kernels.reduce_c_kernel,
            n * t * triton.cdiv(h * w, tile['BP']),
            out=out,
            out_argmax=argmax,
            base_h=plan.base_h,
            base_w=plan.base_w,
            length=group.length,
            XP=_pixel_stride(plan, plan.x),
            YP=_pixel_stride(plan, plan.y),
            num_warps=_warps(tile['BC'] * tile['BP']),
            **tile,
            **arguments,
        )
        return out, argmax

    tile = _reduction_tile(plan)
    blocks_h, blocks_w = triton.cdiv(h, tile['BH']), triton.cdiv(w, tile['BW'])
    size_h, size_w = n * t * c * w, n * t * c * h
    # Where a frame has several tiles, their H and W maps come behind.
    length = group.length
    dest_h, dest_w = plan.base_h, plan.base_w
    if blocks_h > 1:
        dest_h, length = length, length + size_h * blocks_h
    if blocks_w > 1:
        dest_w, length = length, length + size_w * blocks_w
    out, argmax = outputs(length)
    _launch(
        kernels.reduce_thw_kernel,
        _tiles(plan, tile),
        out=out,
        out_argmax=argmax,
        dest_h=dest_h,
        dest_w=dest_w,
        size_h=size_h,
        size_w=size_w,
        length=length,
        num_warps=_warps(tile['BC'] * tile['BH'] * tile['BW']),
        **tile,
        **arguments,
    )
    for base, dest, size, blocks in [
        (plan.base_h, dest_h, size_h, blocks_h),
        (plan.base_w, dest_w, size_w, blocks_w),
    ]:
        if blocks > 1:
            _launch(
                kernels.merge_kernel,
                triton.cdiv(size, 512),
                out=out,
                argmax=argmax,
                base=base,
                dest=dest,
                size=size,
                blocks=blocks,
                length=length,
                PLANES=planes,
                MERGED=512,
                INT=plan.int_type,
            )
    return out, argmax


def _pool(
    plan: _Plan,
    group: _Group,
    x: Tensor,
    gates: Optional[Tensor],
    grad: Optional[Tensor] = None,
    relu: bool = False,
    with_argmax: bool = False,
) -> Tuple[Tensor, Optional[Tensor]]:
    """Maximum and sum of ``x`` times the inner gates; with ``grad``, also the
    sum of ``grad * x``, for ``relu`` where ``x`` is positive.
    """
    planes = 2 if grad is None else 3
    return _reduce(
        plan, group, planes, x, grad, gates, relu=relu, with_argmax=with_argmax
    )


def _unpooled_products(plan: _Plan, group: _Group, x: Tensor, back: _Back) -> Tensor:
    """Sum of ``grad_z * x``."""
    return _reduce(plan, group, 1, x, back=back)[0][0]


def _maps(plan: _Plan, group: _Group, eps: float) -> Dict[str, Any]:
    """Arguments of all kernels that work on maps."""
    n, c, t, h, w = plan.shape
    return dict(
        N=n,
        C=c,
        T=t,
        H=h,
        W=w,
        base_h=plan.base_h,
        base_w=plan.base_w,
        first=group.first,
        second=group.second,
        steps=group.steps,
        rows=group.rows,
        eps=eps,
        GATES=len(group),
        INT=plan.int_type,
    )


def _gates(
    plan: _Plan,
    group: _Group,
    pooled: Tensor,
    stats: Tensor,
    batch_stats: bool = False,
    eps: float = 0.0,
    with_response: bool = False,
    sync: str = '',
) -> Tuple[Tensor, Optional[Tensor]]:
    """The gates of a group, and if asked for what they were made of.

    With ``batch_stats``, ``stats`` is filled.
    """
    gates = pooled.new_empty(group.length)
    response, moments = None, None
    if batch_stats or with_response:
        response = torch.empty_like(gates)
    if batch_stats:
        moments = pooled.new_empty(len(group) * group.rows, 3)
    _launch(
        kernels.conv_kernel,
        group.programs,
        pooled=pooled,
        weight=group.weight,
        scale=group.scale,
        shift=group.shift,
        stats=stats,
        moments=moments,
        response=response,
        gates=gates,
        length=pooled.stride(0),
        **_maps(plan, group, eps),
    )
    if moments is not None and sync:
        stats.copy_(_stats_of_all(plan, group, moments, sync))
        return _gates(plan, group, pooled, stats, False, eps, with_response)
    if batch_stats:
        _launch(
            kernels.norm_kernel,
            group.programs,
            response=response,
            moments=moments,
            scale=group.scale,
            shift=group.shift,
            stats=stats,
            gates=gates,
            ROWS=triton.next_power_of_2(group.rows),
            **_maps(plan, group, eps),
        )
    return gates, response


def _stats_of_all(plan: _Plan, group: _Group, moments: Tensor, sync: str) -> Tensor:
    """Mean and variance ``[G, 2]`` over processes, from the moments of the
    programs ``[G * rows, 3]``: count, mean and sum of squared deviations.
    """
    counts = _counts(plan, group, moments)
    count, mean, squares = moments.view(len(group), group.rows, 3).unbind(-1)
    # Gates have different numbers of programs.
    programs = counts.new_tensor(group.programs_of)[:, None]
    there = torch.arange(group.rows, device=moments.device) < programs
    count, mean = count.where(there, 0), mean.where(there, 0)
    centre = (count * mean).sum(1) / counts
    away = (mean - centre[:, None]) ** 2 * count
    variance = (squares.where(there, 0) + away).sum(1) / counts
    return combine_stats(torch.stack([centre, variance], 1), counts, sync)


def _counts(plan: _Plan, group: _Group, like: Tensor) -> Tensor:
    """Values that each norm sees."""
    sizes = dict(zip('NCTHW', plan.shape))
    total = math.prod(plan.shape)
    return like.new_tensor([total // sizes[axis] for axis in group.axes])


def _weigh(
    plan: _Plan, group: _Group, x: Tensor, gates: Tensor, out: Tensor, relu: bool
) -> None:
    tile = _product_tile(plan)
    _launch(
        kernels.weigh_kernel,
        _tiles(plan, tile),
        x=x,
        gates=gates,
        out=out,
        base_h=plan.base_h,
        base_w=plan.base_w,
        OUTER_C=group.axes == 'C',
        RELU=relu,
        **tile,
        **_layout(plan),
    )


def _grad_gates(
    plan: _Plan, made: _Gates, products: Tensor, spec: Specification
) -> Tuple[Tensor, Tensor, Tensor]:
    """Gradients of the pools ``[2, length]``, of the kernels ``[G, 54]`` and
    of scale and shift ``[G, 2]``, from the sums of ``gradient * x``.
    """
    group = made.group
    assert made.response is not None
    grad_norm = torch.empty_like(made.response)
    sums = grad_norm.new_empty(len(group) * group.rows, 2)
    _launch(
        kernels.grad_gate_kernel,
        group.programs,
        products=products,
        response=made.response,
        scale=group.scale,
        shift=group.shift,
        stats=made.stats,
        grad_norm=grad_norm,
        sums=sums,
        **_maps(plan, group, spec.eps),
    )
    grads_of_norm = None
    if spec.batch_stats and spec.group:
        grads_of_norm = _share_sums(plan, group, sums, spec.group)
    grads = grad_norm.new_empty(2, group.length)
    # The gates have different numbers of programs.
    grad_weight = grad_norm.new_zeros(len(group), group.rows, 54)
    grad_scale_shift = grad_norm.new_empty(len(group), 2)
    _launch(
        kernels.grad_conv_kernel,
        group.programs,
        grad_norm=grad_norm,
        sums=sums,
        response=made.response,
        pooled=made.pooled,
        weight=group.weight,
        scale=group.scale,
        stats=made.stats,
        grads=grads,
        grad_weight=grad_weight,
        grad_scale_shift=grad_scale_shift,
        pooled_length=made.pooled.stride(0),
        length=group.length,
        BATCH_STATS=spec.batch_stats,
        ROWS=triton.next_power_of_2(group.rows),
        **_maps(plan, group, spec.eps),
    )
    if grads_of_norm is not None:
        grad_scale_shift = grads_of_norm
    return grads, grad_weight.sum(1), grad_scale_shift


def _share_sums(plan: _Plan, group: _Group, sums: Tensor, sync: str) -> Tensor:
    """Have the next kernel divide the sums of all processes by their count.

    Returns:
        Tensor: The gradients of scale and shift ``[G, 2]``, of this process.
    """
    counts = _counts(plan, group, sums)
    programs = counts.new_tensor(group.programs_of)[:, None]
    there = torch.arange(group.rows, device=sums.device) < programs
    by_gate = sums.view(len(group), group.rows, 2)  # alone, times the normed
    own = by_gate.where(there[..., None], 0).sum(1)
    by_gate.zero_()
    by_gate[:, 0] = mean_over_all(own, counts, sync) * counts[:, None]
    return own.flip(1)


def _grad_x(
    plan: _Plan,
    outer: _Group,
    grad: Tensor,
    x: Tensor,
    backs: List[_Back],
    grad_x: Tensor,
    relu: bool,
) -> None:
    arguments: Dict[str, Any] = {}
    found = {back.group.axes: back for back in backs}
    for axes, suffix in (('C', 'c'), ('THW', 'thw')):
        back = found.get(axes)
        arguments[f'gates_{suffix}'] = back.gates if back else None
        arguments[f'grads_{suffix}'] = back.grads if back else None
        arguments[f'argmax_{suffix}'] = back.argmax if back else None
        arguments[f'length_{suffix}'] = back.group.length if back else 0
    tile = _product_tile(plan)
    _launch(
        kernels.grad_x_kernel,
        _tiles(plan, tile),
        grad=grad,
        x=x,
        out=grad_x,
        base_h=plan.base_h,
        base_w=plan.base_w,
        OUTER_C=outer.axes == 'C',
        NESTED=len(backs) > 1,
        RELU=relu,
        **arguments,
        **tile,
        **_layout(plan),
    )
