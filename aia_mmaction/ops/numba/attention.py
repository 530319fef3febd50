"""The attention on CPUs, with the loops of :mod:`.planar`, :mod:`.channels_last`
and :mod:`.volumes`.

The same functions as in :mod:`..fused`. The loops know float32 in either layout;
of anything else they get a copy.
"""

from functools import lru_cache
from typing import Any, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from ..parameters import Parameters, Saved
from ..recompute import restore
from ..reference import AXES, GateAxes
from ..specification import Specification
from ..sync import combine_stats, mean_over_all
from . import channels_last, planar, volumes
from .compiling import with_threads

Array = Any  # of NumPy, whose types say no more
NO_MOMENTS = NO_NORM = np.empty((0, 3), np.float32)


def new_saved(x: Tensor, spec: Specification, backward: bool) -> Saved:
    """What :func:`forward` saves, uninitialised: the pools of all gates as the
    loops have them, and the argmax.
    """
    size = 0
    if backward:
        # Not of the layout, as a compiler may know no numbers
        sizes = [x.numel() // x.shape[AXES[axis][0]] for axis in spec.axes.all]
        size = _size(sum(sizes), _prefers_channels_last(x))
    return Saved(
        x.new_empty(2 * size, dtype=torch.float32),
        x.new_empty(size, dtype=torch.int16),
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


def _forward(
    x: Tensor,
    out: Tensor,
    parameters: Parameters,
    spec: Specification,
    saved: Saved,
) -> Tensor:
    rows = _rows(x.detach(), _prefers_channels_last(x))
    gates = _Gates(rows, parameters, spec, saved)
    passes, common = rows.passes, (rows.shape, gates.layout.begins)
    nested = False
    for group in gates.layout.groups:
        pool = passes.pool_c if group.of_c else passes.pool_thw
        pool(rows.flat, rows.steps, *common, nested, gates.gate, *gates.pools)
        gates.compute(group)
        nested = True
    to = rows if out is x and rows.is_of(x) else _room(rows, out.detach())
    passes.weigh(
        rows.flat,
        rows.steps,
        to.flat,
        to.steps,
        *common,
        gates.layout.groups[-1].of_c,
        gates.gate,
        spec.relu,
    )
    to.copy_to(out)
    return torch.from_numpy(gates.stats)


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
    result = torch.empty_like(x)
    # What is made again of the norm's input may have the other layout.
    layout = _layout(tuple(x.shape), spec.axes, True)
    is_channels_last = saved.volumes.numel() == 2 * layout.size
    rows = _rows(restore(x.detach(), host_norm), is_channels_last)
    of_grad = _rows(grad.detach(), is_channels_last)
    gates = _Gates(rows, parameters, spec, saved)
    gates.compute_again()
    passes, common = rows.passes, (rows.shape, gates.layout.begins)
    pooled = _floats(2, gates.layout.size)  # what comes back through the pools
    through = *pooled, gates.pools[-1]
    grads = _Grads(_floats(*gates.weight.shape), _floats(*gates.stats.shape))
    nested = False
    for group in reversed(gates.layout.groups):
        sums = _floats(gates.layout.size)
        add_up = passes.sum_c if group.of_c else passes.sum_thw
        add_up(
            rows.flat,
            rows.steps,
            of_grad.flat,
            of_grad.steps,
            *common,
            nested,
            spec.relu,
            *through,
            sums,
        )
        _grad_gates(gates, group, sums, pooled, grads)
        nested = True
    to = _room(rows, result)
    passes.grad_x(
        rows.flat,
        rows.steps,
        of_grad.flat,
        of_grad.steps,
        to.flat,
        to.steps,
        *common,
        bool(spec.inner),
        gates.layout.groups[-1].of_c,
        spec.relu,
        gates.gate,
        *through,
    )
    to.copy_to(result)
    weight, scale, shift, _ = parameters
    grad_weight, grad_norm = (torch.from_numpy(g) for g in grads)
    return (
        result,
        grad_weight.view(weight.shape).to(weight.dtype),
        grad_norm[:, 0].to(scale.dtype, copy=True),
        grad_norm[:, 1].to(shift.dtype, copy=True),
    )


class _Rows:
    """A tensor ``[N, C, T, H, W]`` as the loops take it.

    Args:
        tensor (Tensor): Of float32 and a layout that they know.
        is_channels_last (bool): Which of the two.
    """

    def __init__(self, tensor: Tensor, is_channels_last: bool) -> None:
        self.tensor = tensor
        self.is_channels_last = is_channels_last
        self.passes: Any = channels_last if is_channels_last else planar
        self.shape = tuple(tensor.shape)
        n, c, t, h, w = self.shape
        of_n, of_c, of_t, of_h, of_w = tensor.stride()
        # From sample to sample, frame to frame, and plane to plane or line to line
        self.steps = of_n, of_t, of_h if is_channels_last else of_c
        # All elements between the first and the last one
        size = 1 + (n - 1) * of_n + (c - 1) * of_c + (t - 1) * of_t
        size += (h - 1) * of_h + (w - 1) * of_w
        self.flat = tensor.as_strided((size if tensor.numel() else 0,), (1,)).numpy()

    def is_of(self, x: Tensor) -> bool:
        """Whether it is no copy of a tensor, but that itself."""
        return self.tensor.data_ptr() == x.data_ptr()

    def copy_to(self, out: Tensor) -> None:
        """Write it to a tensor, unless it is that itself."""
        if not self.is_of(out):
            out.copy_(self.tensor)


def _is_planar(x: Tensor) -> bool:
    (_, _, _, h, w), (_, _, _, of_h, of_w) = x.shape, x.stride()
    return (of_w == 1 or w == 1) and (of_h == w or h == 1)


def _is_channels_last(x: Tensor) -> bool:
    (_, c, _, _, w), (_, of_c, _, _, of_w) = x.shape, x.stride()
    return (of_c == 1 or c == 1) and (of_w == c or w == 1)


def _prefers_channels_last(x: Tensor) -> bool:
    return _is_channels_last(x) and not _is_planar(x)


def _fits(x: Tensor, is_channels_last: bool) -> bool:
    is_laid_out = _is_channels_last(x) if is_channels_last else _is_planar(x)
    return is_laid_out and x.dtype == torch.float32


def _rows(x: Tensor, is_channels_last: bool) -> _Rows:
    if not _fits(x, is_channels_last):
        last = torch.channels_last_3d
        layout = last if is_channels_last else torch.contiguous_format
        x = x.to(torch.float32).contiguous(memory_format=layout)
    return _Rows(x, is_channels_last)


def _room(rows: _Rows, out: Tensor) -> _Rows:
    """To write to in the same layout: a tensor, or what is copied to it."""
    if not _fits(out, rows.is_channels_last):
        out = torch.empty_like(rows.tensor)
    return _Rows(out, rows.is_channels_last)


# The dimensions in NCTHW of the axes of each gate's map
_PLANAR = dict(C=(2, 3, 4), T=(1, 3, 4), H=(2, 1, 4), W=(2, 1, 3))
_CHANNELS_LAST = dict(C=(2, 3, 4), T=(3, 4, 1), H=(2, 4, 1), W=(2, 3, 1))


class _Group(NamedTuple):
    """Gates that are computed together."""

    of_c: bool  # the C gate, else those of T, H and W
    first: int  # number of the first gate
    last: int  # number behind the last one
    part: slice  # of the flat maps
    items: int  # how many :mod:`.volumes` has


def _size(elements: int, is_channels_last: bool) -> int:
    """Of a flat array of maps: as eight numbers are read at once, a few more than
    the elements, and so many that the size tells the layout.
    """
    return elements + (9 if is_channels_last else 8)


class _Layout:
    """Where the maps of the gates lie in flat arrays.

    Args:
        shape (tuple[int]): ``[N, C, T, H, W]``.
        axes (GateAxes): The axes of the gates.
        is_channels_last (bool): Whether channels are the last axis of the maps.
    """

    def __init__(
        self, shape: Tuple[int, ...], axes: GateAxes, is_channels_last: bool
    ) -> None:
        dims = _CHANNELS_LAST if is_channels_last else _PLANAR
        # How far apart neighbours in a kernel [3, 3, 3] are, by the axes of a map
        self.order = np.array(
            [
                [9 // 3 ** AXES[axis][1].index(d) for d in dims[axis]]
                for axis in axes.all
            ]
        )
        self.size = 0  # elements of all maps
        rows, begins, ends = [], [], []
        for axis in axes.all:
            sizes = [shape[d] for d in dims[axis]]
            padded = (sizes[1] + 2) * (sizes[2] + 2)
            slices = max(2, min(sizes[0], 4096 // padded))  # what a cache holds
            rows.append((shape[0], *sizes, self.size, slices))
            begins.append(self.size)
            self.size += shape[0] * int(np.prod(sizes))
            ends.append(self.size)
        self.geometry = np.array(rows)
        self.size = _size(self.size, is_channels_last)
        where = dict(zip(axes.all, begins))
        self.begins = tuple(where.get(axis, 0) for axis in 'CTHW')
        self.groups = []
        first = 0
        for group in filter(None, axes):
            last = first + len(group)
            part = slice(begins[first], ends[last - 1])
            items = sum(
                n * -(-d1 // slices) for n, d1, _, _, _, slices in rows[first:last]
            )
            self.groups.append(_Group(group == 'C', first, last, part, items))
            first = last


_layout = lru_cache(maxsize=1024)(_Layout)  # which never change


def _array(x: Tensor) -> Array:
    return x.detach().to(torch.float32).numpy()


def _floats(*shape: int) -> Array:
    """Room from PyTorch, which counts what it allocates."""
    return torch.empty(shape, dtype=torch.float32, device='cpu').numpy()


class _Gates:
    """The gates of a layer: their parameters and what is computed of them."""

    def __init__(
        self, rows: _Rows, parameters: Parameters, spec: Specification, saved: Saved
    ) -> None:
        self.layout = _layout(rows.shape, spec.axes, rows.is_channels_last)
        self.spec = spec
        weight, self.scale, self.shift = (_array(t) for t in parameters[:3])
        self.weight = weight.reshape(-1, 54)
        if parameters.stats is None:
            self.stats = np.empty((len(self.weight), 2), np.float32)
        else:
            self.stats = _array(parameters.stats).copy()
        self.eps = np.float32(spec.eps)
        size = self.layout.size
        is_saved = saved.volumes.numel() > 0
        self.volumes = (
            saved.volumes.view(2, -1).numpy() if is_saved else _floats(2, size)
        )
        self.pools = *self.volumes, saved.argmax.numpy()  # as the passes take them
        self.gate = _floats(size)

    def compute(self, group: _Group) -> None:
        """From the pools of a group to its gates."""
        first, last = group.first, group.last
        if self.spec.batch_stats:
            response, moments = _floats(self.layout.size), _floats(group.items, 3)
            self._convolve(first, last, NO_NORM, response, moments)
            some = self.layout.geometry, first, last
            volumes.combine_moments(moments, *some, self.stats)
            if self.spec.group:
                own = torch.from_numpy(self.stats[first:last])
                own.copy_(combine_stats(own, self.counts(group), self.spec.group))
            volumes.normalise(response, *some, self._norms()[1], self.gate)
        else:
            self._convolve(first, last, self._norms()[1], self.gate)
        torch.from_numpy(self.gate[group.part]).sigmoid_()

    def compute_again(self) -> None:
        """From saved pools to all gates, and what their norms made."""
        every = 0, len(self.weight)
        of_norms, of_gates = self._norms()
        self.normed = _floats(self.layout.size)
        self._convolve(*every, of_norms, self.normed)
        of_gates[:, 0], of_gates[:, 1] = 0, self.scale  # of what is normalised
        some = self.layout.geometry, *every
        volumes.normalise(self.normed, *some, of_gates, self.gate)
        torch.from_numpy(self.gate).sigmoid_()

    def _norms(self) -> Array:
        """For the norms alone, and with scale and shift, ``[2, G, 3]``."""
        norms = np.empty((2, len(self.weight), 3), np.float32)
        volumes.of_norms(self.stats, self.eps, self.scale, self.shift, *norms)
        return norms

    def _convolve(
        self,
        first: int,
        last: int,
        norm: Array,
        out: Array,
        moments: Array = NO_MOMENTS,
    ) -> None:
        layout = self.layout
        volumes.convolve(
            self.volumes,
            layout.geometry,
            layout.order,
            first,
            last,
            self.weight,
            False,
            norm,
            out[None],
            moments,
        )

    def counts(self, group: _Group) -> Tensor:
        """Values that each norm sees."""
        geometry = self.layout.geometry[group.first : group.last]
        return torch.from_numpy(geometry[:, :4].prod(1))


class _Grads(NamedTuple):
    weight: Array  # [G, 54]
    norm: Array  # scale and shift [G, 2]


def _grad_gates(
    gates: _Gates, group: _Group, sums: Array, pooled: Array, grads: _Grads
) -> None:
    """From the sums of ``gradient * x`` to the gradients of parameters and, into
    ``pooled``, of pools.
    """
    layout, spec = gates.layout, gates.spec
    some = layout.geometry, group.first, group.last
    grad = _floats(1, layout.size)
    volumes.grad_norm(sums, gates.gate, gates.normed, *some, grad[0], grads.norm)
    # What depends on the batch: the means of both, if its statistics do
    means = np.zeros_like(grads.norm[group.first : group.last])
    if spec.batch_stats:
        own = torch.from_numpy(grads.norm[group.first : group.last])
        means = mean_over_all(own, gates.counts(group), spec.group).numpy()
    volumes.grad_response(
        gates.normed, *some, means, gates.scale, gates.stats, gates.eps, grad[0]
    )
    ordered = layout.geometry, layout.order, group.first, group.last
    volumes.convolve(grad, *ordered, gates.weight, True, NO_NORM, pooled, NO_MOMENTS)
    parts = _floats(group.items, 54)
    volumes.correlate(gates.volumes, grad, *ordered, parts)
    volumes.sum_items(parts, layout.geometry, group.first, group.last, grads.weight)
