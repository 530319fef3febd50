"""The attention on CPUs, with the loops of :mod:`.loops` and :mod:`.volumes`.

The same functions as in :mod:`..fused`. The loops know float32 in channels_last,
which has long rows of channels however small a frame is; of anything else they
get a copy.
"""

from functools import lru_cache
from typing import Any, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from ..parameters import Parameters, Saved
from ..recompute import restore
from ..reference import AXES, GateAxes
from ..specification import Specification
from ..sync import combine_stats, mean_over_all
from . import loops, volumes
from .compiling import with_threads

Array = Any  # of NumPy, whose types say no more
NO_GATE = np.empty((0, 0, 0, 0), np.float32)
NO_INDEX = np.empty((0, 0, 0, 0), np.int16)


def new_saved(x: Tensor, spec: Specification, backward: bool) -> Saved:
    """What :func:`forward` saves, uninitialised."""
    layout = _layout(tuple(x.shape), spec.axes)
    size = 2 * layout.padded if backward else 0
    return Saved(
        x.new_empty(size, dtype=torch.float32),
        x.new_empty(layout.size if backward else 0, dtype=torch.int16),
    )


@with_threads
def forward(
    x: Tensor, parameters: Parameters, spec: Specification, backward: bool
) -> Tuple[Tensor, Tensor, Saved]:
    """As :func:`..fused.forward`, for all types but float64."""
    out, saved = torch.empty_like(x), new_saved(x, spec, backward)
    return out, _forward(x, out, parameters, spec, saved), saved


@with_threads
def forward_inplace(x: Tensor, parameters: Parameters, spec: Specification) -> Tensor:
    """As :func:`..fused.forward_inplace`."""
    return _forward(x, x, parameters, spec, new_saved(x, spec, False))


@with_threads
def backward(
    grad: Tensor,
    x: Tensor,
    host_norm: Optional[Tensor],
    parameters: Parameters,
    spec: Specification,
    saved: Saved,
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """As :func:`..fused.backward`."""
    layout = _layout(tuple(x.shape), spec.axes)
    result = torch.empty_like(x)
    x, grad = _to_loops(restore(x.detach(), host_norm)), _to_loops(grad)
    if spec.relu:
        # The gates are positive, so the output has the sign of x.
        grad = torch.ops.aten.threshold_backward(grad, x, 0)
    gates = _Gates(layout, parameters, spec, saved)
    inner, outer = layout.groups
    gates.compute_again()
    grad_x = torch.empty_like(x)
    _weigh(gates, outer, grad, grad_x, False)
    grads = [_grad_gates(gates, outer, _sums(gates, outer, grad, x))]
    if spec.inner:
        grad_z = torch.zeros_like(x)
        _add_through_pools(gates, outer, grads[0].pooled, grad_z, None)
        grads.insert(0, _grad_gates(gates, inner, _sums(gates, inner, grad_z, x)))
        _add_through_pools(gates, inner, grads[0].pooled, grad_x, grad_z)
    else:
        _add_through_pools(gates, outer, grads[0].pooled, grad_x, None)
    _from_loops(grad_x, result)
    weight, scale, shift, _ = parameters
    grad_norms = torch.from_numpy(np.concatenate([g.norm for g in grads]))
    weights = torch.from_numpy(np.concatenate([g.weight for g in grads]))
    return (
        result,
        weights.to(weight.dtype, copy=True),
        grad_norms[:, 0].to(scale.dtype, copy=True),
        grad_norms[:, 1].to(shift.dtype, copy=True),
    )


def _forward(
    x: Tensor,
    out: Tensor,
    parameters: Parameters,
    spec: Specification,
    saved: Saved,
) -> Tensor:
    layout = _layout(tuple(x.shape), spec.axes)
    gates = _Gates(layout, parameters, spec, saved)
    volumes.clear_borders(gates.volumes, layout.geometry)
    x, out = _to_loops(x), out.detach()
    inner, outer = layout.groups
    if spec.inner:
        _pool(gates, None, inner, x)
        gates.compute(inner)
    _pool(gates, inner if spec.inner else None, outer, x)
    gates.compute(outer)
    last = out.permute(0, 2, 3, 4, 1)
    if last.is_contiguous() and out.dtype == x.dtype:
        _weigh(gates, outer, x, last, spec.relu)
    else:
        # x is a copy, or there is none of it.
        weighed = torch.empty_like(x)
        _weigh(gates, outer, x, weighed, spec.relu)
        _from_loops(weighed, out)
    return torch.tensor(gates.stats, device='cpu')


# The dimensions in NCTHW of the axes of each gate's volume
_ORDERS = dict(C=(2, 3, 4), T=(3, 4, 1), H=(2, 4, 1), W=(2, 3, 1))


class _Layout:
    """Where the volumes and maps of the gates lie in flat arrays.

    Args:
        shape (tuple[int]): ``[N, C, T, H, W]``.
        axes (GateAxes): The axes of the gates.
    """

    def __init__(self, shape: Tuple[int, ...], axes: GateAxes) -> None:
        self.axes = axes.all
        self.n = n = shape[0]
        self.groups = slice(0, len(axes.inner)), slice(len(axes.inner), len(axes.all))
        counts = [len(group) for group in axes for _ in group]
        self.share = (1 / np.array(counts)).astype(np.float32)
        orders = [_ORDERS[axis] for axis in self.axes]
        self.shapes = [tuple(shape[d] for d in order) for order in orders]
        # From the axes of a kernel [2, 3, 3, 3] to those of its volume
        self.orders = [
            (0, *(1 + AXES[axis][1].index(d) for d in order))
            for axis, order in zip(self.axes, orders)
        ]
        self.padded = self.size = 0  # elements of all maps, with borders and without
        rows = []
        self.begins = []
        for d1, d2, d3 in self.shapes:
            rows.append((n, d1, d2, d3, self.padded, self.size))
            self.begins.append((self.padded, self.size))
            self.padded += n * (d1 + 2) * (d2 + 2) * (d3 + 2)
            self.size += n * d1 * d2 * d3
        self.begins.append((self.padded, self.size))
        self.geometry = np.array(rows)
        self.all = slice(0, len(rows))

    def items(self, group: slice) -> int:
        """Slices of all gates of a group."""
        return sum(self.n * self.shapes[i][0] for i in range(group.start, group.stop))


_layout = lru_cache(maxsize=1024)(_Layout)  # which never change


def _to_loops(x: Tensor) -> Tensor:
    """``[N, C, T, H, W]`` as float32 ``[N, T, H, W, C]``, contiguous."""
    x = x.detach().to(torch.float32)
    last = x.permute(0, 2, 3, 4, 1)
    sizes = _planar_sizes(x)
    if last.is_contiguous() or sizes is None:
        return last.contiguous()
    out = x.new_empty(last.shape)
    loops.transpose(_flat(x), _flat(out), *sizes)
    return out


def _from_loops(x: Tensor, out: Tensor) -> None:
    """Write ``[N, T, H, W, C]`` to ``[N, C, T, H, W]``."""
    sizes = _planar_sizes(out)
    if sizes is None or out.dtype != x.dtype:
        out.copy_(x.permute(0, 4, 1, 2, 3))
    else:
        count, channels, pixels = sizes
        loops.transpose(_flat(x), _flat(out), count, pixels, channels)


def _planar_sizes(x: Tensor) -> Optional[Tuple[int, int, int]]:
    """Of ``[N, C, T, H, W]`` with dense frames or clips: how many, their
    channels and pixels.
    """
    n, c, t, h, w = x.shape
    if x.transpose(1, 2).is_contiguous():
        return n * t, c, h * w
    return (n, c, t * h * w) if x.is_contiguous() else None


def _floats(*shape: int) -> Array:
    """Room from PyTorch, which counts what it allocates."""
    return torch.empty(shape, dtype=torch.float32, device='cpu').numpy()


def _flat(x: Tensor) -> Array:
    return x.as_strided((x.numel(),), (1,)).numpy()


class _Gates:
    """The gates of a layer: their parameters and what is computed of them."""

    def __init__(
        self,
        layout: _Layout,
        parameters: Parameters,
        spec: Specification,
        saved: Saved,
    ) -> None:
        self.layout = layout
        self.batch_stats = spec.batch_stats
        self.sync = spec.group
        self.eps = np.float32(spec.eps)
        of_gates = [t.detach().float().numpy() for t in parameters[:3]]
        weight, self.scale, self.shift = of_gates
        self.weight = np.empty((len(weight), 1, 2, 3, 3, 3), np.float32)
        for i in range(len(weight)):
            self.weight[i, 0] = weight[i].transpose(layout.orders[i])
        if parameters.stats is None:
            self.stats = np.empty((len(weight), 2), np.float32)
        else:
            self.stats = parameters.stats.float().numpy().copy()
        self.volumes = saved.volumes.numpy()
        if not len(self.volumes):
            self.volumes = _floats(2 * layout.padded)
        self.response = _floats(layout.size)
        self.gate = torch.from_numpy(_floats(layout.size))
        self.argmax = saved.argmax.numpy()

    def of(self, flat: Array, group: slice, planes: int = 1) -> List[Array]:
        """Maps of a group without borders, ``[N, D1, D2, D3]`` or with planes."""
        found = []
        for i in range(group.start, group.stop):
            begin, end = self.layout.begins[i][1], self.layout.begins[i + 1][1]
            n, shape = self.layout.n, self.layout.shapes[i]
            part = flat[planes * begin : planes * end]
            found.append(
                part.reshape((n, planes, *shape) if planes > 1 else (n, *shape))
            )
        return found

    def maps(self, group: slice) -> List[Array]:
        """The gates themselves."""
        return self.of(self.gate.numpy(), group)

    def pooled(self, group: slice) -> List[Array]:
        """Volumes with borders, ``[N, 2, D1 + 2, D2 + 2, D3 + 2]``."""
        found = []
        for i in range(group.start, group.stop):
            begin, end = self.layout.begins[i][0], self.layout.begins[i + 1][0]
            d1, d2, d3 = self.layout.shapes[i]
            part = self.volumes[2 * begin : 2 * end]
            found.append(part.reshape(self.layout.n, 2, d1 + 2, d2 + 2, d3 + 2))
        return found

    def indices(self, group: slice) -> List[Array]:
        """The argmax of each gate, or empty arrays."""
        if len(self.argmax):
            return self.of(self.argmax, group)
        return [NO_INDEX for _ in range(group.start, group.stop)]

    def compute(self, group: slice) -> None:
        """From the volumes of a group to its gates."""
        moments = self._convolve(group, self.batch_stats)
        if self.batch_stats:
            geometry = self.layout.geometry[group]
            volumes.combine_moments(moments, geometry, self.stats[group])
            if self.sync:
                own = torch.from_numpy(self.stats[group])
                own.copy_(combine_stats(own, _counts(geometry), self.sync))
        self._open(group)

    def compute_again(self) -> None:
        """From saved volumes to all gates."""
        self._convolve(self.layout.all, False)
        self._open(self.layout.all)

    def _convolve(self, group: slice, with_moments: bool) -> Array:
        geometry = self.layout.geometry[group]
        items = self.layout.items(group) if with_moments else 0
        moments = _floats(items, 2)
        weight = self.weight[group]
        volumes.convolve(self.volumes, geometry, weight, self.response, moments)
        return moments

    def _open(self, group: slice) -> None:
        """From responses to gates."""
        geometry = self.layout.geometry[group]
        slope = self.scale[group] * self.deviation(group)
        offset = self.shift[group] - self.stats[group, 0] * slope
        volumes.normalise(self.response, geometry, slope, offset, self.gate.numpy())
        begin = self.layout.begins[group.start][1]
        self.gate[begin : self.layout.begins[group.stop][1]].sigmoid_()

    def deviation(self, group: slice) -> Array:
        """One by the standard deviation."""
        return 1 / np.sqrt(self.stats[group, 1] + self.eps)


class _Grads(NamedTuple):
    pooled: List[Array]  # [N, 2, D1, D2, D3] each
    weight: Array  # [G, 2, 3, 3, 3]
    norm: Array  # scale and shift [G, 2]


def _counts(geometry: Array) -> Tensor:
    """Values that each norm sees."""
    return torch.from_numpy(geometry[:, :4].prod(1))


def _pool(gates: _Gates, inner: Optional[slice], group: slice, x: Tensor) -> None:
    """Pools of ``x`` times the inner gates."""
    nested = inner is not None
    pooled, argmax = gates.pooled(group), gates.indices(group)
    if len(pooled) == 1:
        maps = [NO_GATE] * 3 if inner is None else gates.maps(inner)
        loops.pool_c(x.numpy(), nested, *maps, *pooled, *argmax)
    else:
        gate = NO_GATE if inner is None else gates.maps(inner)[0]
        loops.pool_thw(x.numpy(), nested, gate, *pooled, *argmax)


def _weigh(gates: _Gates, group: slice, x: Tensor, out: Tensor, relu: bool) -> None:
    """``x`` times the mean of the gates of a group."""
    maps = gates.maps(group)
    weigh = loops.weigh_c if len(maps) == 1 else loops.weigh_thw
    weigh(x.numpy(), out.numpy(), *maps, relu)


def _sums(gates: _Gates, group: slice, a: Tensor, b: Tensor) -> Array:
    """Sums of ``a * b`` over the axes of a group, as flat maps."""
    flat = _floats(gates.layout.size)
    out = gates.of(flat, group)
    sums = loops.sum_c if len(out) == 1 else loops.sum_thw
    sums(a.numpy(), b.numpy(), *out)
    return flat


def _grad_gates(gates: _Gates, group: slice, product: Array) -> _Grads:
    """From the sums of ``gradient * x`` to gradients of pools and weights."""
    layout, geometry = gates.layout, gates.layout.geometry[group]
    items = layout.items(group)
    mean = np.ascontiguousarray(gates.stats[group, 0])
    deviation = gates.deviation(group)
    padded = _floats(layout.padded)
    padded.fill(0)
    sums = _floats(items, 2)
    volumes.grad_norm(
        product,
        gates.gate.numpy(),
        gates.response,
        geometry,
        layout.share[group],
        mean,
        deviation,
        padded,
        sums,
    )
    norm = np.empty((len(geometry), 2), np.float32)
    volumes.sum_items(sums, geometry, norm)
    # What depends on the batch: the means of both, if its statistics do
    through = np.zeros((2, len(geometry)), np.float32)
    if gates.batch_stats:
        sums_of_all = torch.from_numpy(norm)
        means = mean_over_all(sums_of_all, _counts(geometry), gates.sync)
        through[:] = means.numpy().T
    volumes.grad_response(
        gates.response,
        geometry,
        mean,
        deviation,
        through[0],
        through[1],
        gates.scale[group] * deviation,
        padded,
    )
    # The transpose of a convolution is one with the kernel turned round.
    turned = gates.weight[group][..., ::-1, ::-1, ::-1].swapaxes(1, 2)
    pooled = _floats(2 * layout.size)
    nothing = np.empty((0, 2), np.float32)
    volumes.convolve(padded, geometry, np.ascontiguousarray(turned), pooled, nothing)
    parts = _floats(items, 2, 3, 3, 3)
    volumes.correlate(gates.volumes, padded, geometry, parts)
    weight = np.empty((len(geometry), 54), np.float32)
    volumes.sum_items(parts.reshape(items, 54), geometry, weight)
    weight = weight.reshape(-1, 2, 3, 3, 3)
    backs = [np.argsort(order) for order in layout.orders[group]]
    weight = np.stack([w.transpose(back) for back, w in zip(backs, weight)])
    return _Grads(gates.of(pooled, group, planes=2), weight, norm)


def _add_through_pools(
    gates: _Gates,
    group: slice,
    pooled: List[Array],
    out: Tensor,
    grad_z: Optional[Tensor],
) -> None:
    """Add what comes through the pools of a group, and ``grad_z`` times its
    gates if it is given.
    """
    nested = grad_z is not None
    z = out if grad_z is None else grad_z
    maps, argmax = gates.maps(group), gates.indices(group)
    add = loops.add_through_c if len(maps) == 1 else loops.add_through_thw
    add(z.numpy(), out.numpy(), nested, *maps, *pooled, *argmax)
