"""The attention on CUDA, with the kernels of :mod:`.kernels`.

The same functions as in :mod:`..fused`. What is as large as ``x`` is read and
written as seldom as its dependencies allow; the names and shapes of what lies
between are explained in :mod:`.kernels`:

- Forward, each gate group reads ``x`` once for all its pools, and ``x`` times
  the inner gates is computed on the fly; then ``x`` is read and the output
  written.
- Backward, the same reads of ``x`` make the pools again, now with the places
  of the maxima, and the outer one reads ``grad`` as well for the sums of
  ``grad * x``; nested layers read ``x`` once more for their inner gates; then
  ``grad`` is read and the gradient of ``x`` written.

float64 is not supported: everything is computed in float32.
"""

from contextlib import nullcontext
from itertools import accumulate
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..clips import from_clips, to_clips
from ..fused import place_type
from ..recompute import restore
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
            ``T = num_segments``; any strides; float16, bfloat16 or float32.
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
        keep (bool): Nothing is kept for :func:`backward` in any case.

    Returns:
        tuple[Tensor, ...]: The output, like ``x``; the statistics ``[G, 2]``
        used, the variance being the biased one, float32; and two empty
        tensors, what is kept.
    """
    folded, x = x, to_clips(x, num_segments)
    out = torch.empty_like(x)
    used = _forward(x, out, weight, scale, shift, stats, eps, inner, outer, relu)
    return (
        from_clips(out, folded),
        used,
        x.new_empty(0, dtype=torch.float32),
        x.new_empty(0, dtype=place_type(x)),
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
    x = to_clips(x, num_segments)
    return _forward(x, x, weight, scale, shift, stats, eps, inner, outer, relu)


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
    """Gradients of :func:`forward`, from its inputs alone.

    Args:
        grad (Tensor): Gradient of the output, of its shape.
        x (Tensor), affine (Tensor, optional): The input, or what
            :func:`.recompute.restore` makes it of.
        weight (Tensor): As in :func:`forward`, and so are the others.
        stats (Tensor): What :func:`forward` returned, and so are the empty
            ``kept`` and ``places``.
        batch_stats (bool): Whether they are those of the batch, and hence
            depend on ``x``.

    Returns:
        tuple[Tensor, ...]: Gradients of ``x``, ``weight``, ``scale`` and
        ``shift``.
    """
    folded, x = x, to_clips(restore(x, affine), num_segments)
    grad = to_clips(grad, num_segments)
    grad_x = torch.empty_like(x)
    # The kernels know one layout of all that has the shape of the output.
    if grad.dtype != x.dtype or grad.stride() != grad_x.stride():
        grad = torch.empty_like(x).copy_(grad)
    plan = _plan(x, grad_x)
    groups = _groups(plan, inner, outer, weight, scale, shift)
    parts = _stats(stats, x, len(weight)).split([len(g) for g in groups])
    made: List[_Kept] = []
    gates = None
    for group, of_group in zip(groups, parts):
        pooled, index = _pool(
            plan,
            group,
            x,
            gates,
            grad if group is groups[-1] else None,
            relu=relu,
            with_index=True,
        )
        gates, response = _gates(
            plan, group, pooled, of_group, with_response=True, eps=eps
        )
        made.append(_Kept(group, pooled, index, response, gates, of_group))

    # The sums of grad * x lie behind those of x.
    products = made[-1].pooled[2]
    backs: List[_Back] = []
    results: List[List[Tensor]] = []
    for each in reversed(made):
        if backs:
            products = _unpooled_products(plan, each.group, x, backs[-1])
        grads, *of_parameters = _grad_gates(plan, each, products, batch_stats, eps)
        backs.append(_Back(each.group, grads, each.places, each.gates))
        results.insert(0, of_parameters)
    _grad_x(plan, groups[-1], grad, x, backs, grad_x, relu)
    grad_weight, grad_affine = (torch.cat(parts) for parts in zip(*results))
    # Copies, as results of an operator must not share memory
    return (
        from_clips(grad_x, folded),
        grad_weight.view_as(weight).to(weight.dtype),
        grad_affine[:, 0].to(scale.dtype, copy=True),
        grad_affine[:, 1].to(shift.dtype, copy=True),
    )


def _forward(
    x: Tensor,
    out: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    stats: Optional[Tensor],
    eps: float,
    inner: str,
    outer: str,
    relu: bool,
) -> Tensor:
    plan = _plan(x, out)
    groups = _groups(plan, inner, outer, weight, scale, shift)
    used = _stats(stats, x, len(weight))
    gates = None
    for group, of_group in zip(groups, used.split([len(g) for g in groups])):
        pooled, _ = _pool(plan, group, x, gates)
        gates, _ = _gates(plan, group, pooled, of_group, stats is None, eps)
    assert gates is not None  # a layer has an outer group
    _weigh(plan, groups[-1], x, gates, out, relu)
    return used


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
    """The gates of ``z``, or those of the output: one or three."""

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

    def __len__(self) -> int:
        return len(self.axes)


class _Kept(NamedTuple):
    group: _Group
    pooled: Tensor  # [planes, length or more]
    places: Optional[Tensor]  # [length or more]
    response: Optional[Tensor]  # [length], convolved, not yet normalised
    gates: Tensor  # [length]
    stats: Tensor  # [G, 2]


class _Back(NamedTuple):
    group: _Group
    grads: Tensor  # [2, length]
    places: Optional[Tensor]
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
    plan: _Plan, inner: str, outer: str, weight: Tensor, scale: Tensor, shift: Tensor
) -> Tuple[_Group, ...]:
    weight, scale, shift = (t.float().contiguous() for t in (weight, scale, shift))
    groups, begin = [], 0
    for axes in filter(None, (inner, outer)):
        end = begin + len(axes)
        groups.append(
            _Group(
                axes,
                weight[begin:end],
                scale[begin:end],
                shift[begin:end],
                *_geometry(plan, axes),
            )
        )
        begin = end
    return tuple(groups)


def _geometry(plan: _Plan, axes: str) -> Tuple[int, ...]:
    """From ``length`` to ``rows`` of a :class:`_Group`."""
    n, c, t, h, w = plan.shape
    sizes = dict(C=t * h * w, T=c * h * w, H=t * c * w, W=t * c * h)
    items = [n * triton.cdiv(sizes[a], kernels.BLOCK.value) for a in axes]
    steps = triton.cdiv(max(items), ROWS)
    programs = [triton.cdiv(i, steps) for i in items]
    return (
        n * sum(sizes[a] for a in axes),
        programs[0],
        sum(programs[:2]),
        sum(programs),
        steps,
        max(programs),
    )


def _stats(stats: Optional[Tensor], x: Tensor, gates: int) -> Tensor:
    """A copy of given statistics, or room for those of the batch."""
    used = x.new_empty(gates, 2, dtype=torch.float32)
    return used if stats is None else used.copy_(stats)


def _block(size: int, limit: int) -> int:
    return min(triton.next_power_of_2(size), max(1, limit))


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
    return (
        n
        * triton.cdiv(c, tile['BC'])
        * triton.cdiv(h, tile['BH'])
        * triton.cdiv(w, tile['BW'])
    )


# ---------------------------------------------------------------------------
# Launches
# ---------------------------------------------------------------------------
def _launch(kernel: Any, programs: int, *args: Any, **options: Any) -> None:
    device = next(a.device for a in args if isinstance(a, Tensor))
    # Triton launches on the current device, not on that of its arguments.
    with torch.cuda.device(device) if device.type == 'cuda' else nullcontext():
        kernel[(programs,)](*args, **options)


def _warps(elements: int) -> int:
    """8 elements per thread, so that sums, maxima and places stay in
    registers.
    """
    return max(4, min(16, elements // 256))


def _strides(prefix: str, strides: Tuple[int, ...]) -> Dict[str, int]:
    return {prefix + axis: s for axis, s in zip('CHW', strides[1:2] + strides[3:])}


def _layout(plan: _Plan) -> Dict[str, Any]:
    """Constants of the kernels that work on tiles of ``x``."""
    return dict(
        H=plan.shape[3],
        W=plan.shape[4],
        INT=plan.int_type,
        **_strides('X', plan.x),
        **_strides('Y', plan.y),
    )


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
    with_index: bool = False,
) -> Tuple[Tensor, Optional[Tensor]]:
    """Reduce ``x`` over the axes of a group, with ``back`` by ``UNPOOL``."""
    n, c, t, h, w = plan.shape
    inputs = (x, grad, gates, back and back.grads, back and back.places)
    sizes = (c, t, plan.x[0], plan.x[2], plan.y[0], plan.y[2])
    back_length = back.group.length if back else 0

    def outputs(length: int) -> Tuple[Tensor, Optional[Tensor]]:
        return (
            x.new_empty(planes, length, dtype=torch.float32),
            x.new_empty(length, dtype=torch.int32) if with_index else None,
        )

    if group.axes == 'C':
        tile = _pixel_block(plan)
        out, index = outputs(group.length)
        _launch(
            kernels.reduce_c_kernel,
            n * t * triton.cdiv(h * w, tile['BP']),
            *inputs,
            out,
            index,
            *sizes,
            plan.base_h,
            plan.base_w,
            back_length,
            group.length,
            UNPOOL=back is not None,
            RELU=relu,
            XP=_pixel_stride(plan, plan.x),
            YP=_pixel_stride(plan, plan.y),
            num_warps=_warps(tile['BC'] * tile['BP']),
            **tile,
            **_layout(plan),
        )
        return out, index

    tile = _reduction_tile(plan)
    # Where a frame has several tiles, their H and W maps come behind.
    length, merges = group.length, []
    for base, size, blocks in [
        (plan.base_h, n * t * c * w, triton.cdiv(h, tile['BH'])),
        (plan.base_w, n * t * c * h, triton.cdiv(w, tile['BW'])),
    ]:
        merges.append((base, base if blocks == 1 else length, size, blocks))
        length += size * blocks if blocks > 1 else 0
    out, index = outputs(length)
    _launch(
        kernels.reduce_thw_kernel,
        _tiles(plan, tile),
        *inputs,
        out,
        index,
        *sizes,
        merges[0][1],
        merges[1][1],
        merges[0][2],
        merges[1][2],
        back_length,
        length,
        UNPOOL=back is not None,
        RELU=relu,
        num_warps=_warps(tile['BC'] * tile['BH'] * tile['BW']),
        **tile,
        **_layout(plan),
    )
    for base, dest, size, blocks in merges:
        if blocks > 1:
            _launch(
                kernels.merge_kernel,
                triton.cdiv(size, 512),
                out,
                index,
                base,
                dest,
                size,
                blocks,
                length,
                PLANES=planes,
                MERGED=512,
                INT=plan.int_type,
            )
    return out, index


def _pool(
    plan: _Plan,
    group: _Group,
    x: Tensor,
    gates: Optional[Tensor],
    grad: Optional[Tensor] = None,
    relu: bool = False,
    with_index: bool = False,
) -> Tuple[Tensor, Optional[Tensor]]:
    """Maximum and sum of ``x`` times the inner gates; with ``grad``, also the
    sum of ``grad * x``, for ``relu`` where ``x`` is positive.
    """
    planes = 2 if grad is None else 3
    return _reduce(
        plan, group, planes, x, grad, gates, relu=relu, with_index=with_index
    )


def _unpooled_products(plan: _Plan, group: _Group, x: Tensor, back: _Back) -> Tensor:
    """Sum of ``grad_z * x``."""
    return _reduce(plan, group, 1, x, back=back)[0][0]


def _small(plan: _Plan, group: _Group) -> Tuple[int, ...]:
    """From ``base_h`` to ``rows`` of the kernels that work on maps."""
    return (
        plan.base_h,
        plan.base_w,
        group.first,
        group.second,
        group.steps,
        group.rows,
    )


def _constants(plan: _Plan, group: _Group) -> Dict[str, Any]:
    return dict(H=plan.shape[3], W=plan.shape[4], GATES=len(group), INT=plan.int_type)


def _gates(
    plan: _Plan,
    group: _Group,
    pooled: Tensor,
    stats: Tensor,
    batch_stats: bool = False,
    eps: float = 0.0,
    with_response: bool = False,
) -> Tuple[Tensor, Optional[Tensor]]:
    """The gates of a group, and if asked for what they were made of.

    With ``batch_stats``, ``stats`` is filled.
    """
    sizes = plan.shape[:3]
    gates = pooled.new_empty(group.length)
    response, moments = None, None
    if batch_stats or with_response:
        response = torch.empty_like(gates)
    if batch_stats:
        moments = pooled.new_empty(len(group) * group.rows, 3)
    _launch(
        kernels.conv_kernel,
        group.programs,
        pooled,
        group.weight,
        group.scale,
        group.shift,
        stats,
        moments,
        response,
        gates,
        *sizes,
        pooled.stride(0),
        *_small(plan, group),
        eps,
        **_constants(plan, group),
    )
    if batch_stats:
        _launch(
            kernels.norm_kernel,
            group.programs,
            response,
            moments,
            group.scale,
            group.shift,
            stats,
            gates,
            *sizes,
            *_small(plan, group),
            eps,
            ROWS=triton.next_power_of_2(group.rows),
            **_constants(plan, group),
        )
    return gates, response


def _weigh(
    plan: _Plan, group: _Group, x: Tensor, gates: Tensor, out: Tensor, relu: bool
) -> None:
    n, c, t, h, w = plan.shape
    tile = _product_tile(plan)
    _launch(
        kernels.weigh_kernel,
        _tiles(plan, tile),
        x,
        gates,
        out,
        c,
        t,
        plan.x[0],
        plan.x[2],
        plan.y[0],
        plan.y[2],
        plan.base_h,
        plan.base_w,
        OUTER_C=group.axes == 'C',
        RELU=relu,
        **tile,
        **_layout(plan),
    )


def _grad_gates(
    plan: _Plan, kept: _Kept, products: Tensor, batch_stats: bool, eps: float
) -> Tuple[Tensor, Tensor, Tensor]:
    """Gradients of the pools ``[2, length]``, of the kernels ``[G, 54]`` and
    of scale and shift ``[G, 2]``, from the sums of ``gradient * x``.
    """
    group = kept.group
    assert kept.response is not None
    grad_norm = torch.empty_like(kept.response)
    sums = grad_norm.new_empty(len(group) * group.rows, 2)
    _launch(
        kernels.grad_gate_kernel,
        group.programs,
        products,
        kept.response,
        group.scale,
        group.shift,
        kept.stats,
        grad_norm,
        sums,
        *plan.shape[:3],
        *_small(plan, group),
        eps,
        **_constants(plan, group),
    )
    grads = grad_norm.new_empty(2, group.length)
    # The gates have different numbers of programs.
    grad_weight = grad_norm.new_zeros(len(group), group.rows, 54)
    grad_affine = grad_norm.new_empty(len(group), 2)
    _launch(
        kernels.grad_conv_kernel,
        group.programs,
        grad_norm,
        sums,
        kept.response,
        kept.pooled,
        group.weight,
        group.scale,
        kept.stats,
        grads,
        grad_weight,
        grad_affine,
        *plan.shape[:3],
        kept.pooled.stride(0),
        group.length,
        *_small(plan, group),
        eps,
        BATCH_STATS=batch_stats,
        ROWS=triton.next_power_of_2(group.rows),
        **_constants(plan, group),
    )
    return grads, grad_weight.sum(1), grad_affine


def _grad_x(
    plan: _Plan,
    outer: _Group,
    grad: Tensor,
    x: Tensor,
    backs: List[_Back],
    grad_x: Tensor,
    relu: bool,
) -> None:
    n, c, t, h, w = plan.shape
    found = {back.group.axes: back for back in backs}
    by_axes = [found.get(axes) for axes in ('C', 'THW')]
    pointers: List[Optional[Tensor]] = []
    lengths = []
    for back in by_axes:
        pointers += (back.gates, back.grads, back.places) if back else [None] * 3
        lengths.append(back.group.length if back else 0)
    tile = _product_tile(plan)
    _launch(
        kernels.grad_x_kernel,
        _tiles(plan, tile),
        grad,
        x,
        *pointers,
        grad_x,
        c,
        t,
        plan.x[0],
        plan.x[2],
        plan.y[0],
        plan.y[2],
        plan.base_h,
        plan.base_w,
        *lengths,
        OUTER_C=outer.axes == 'C',
        NESTED=len(backs) > 1,
        RELU=relu,
        **tile,
        **_layout(plan),
    )
