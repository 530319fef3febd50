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
NO_STATS, NONE = np.empty((0, 2), np.float32), np.empty(0, np.float32)


def new_saved(x: Tensor, spec: Specification, backward: bool) -> Saved:
    """What :func:`forward` saves, uninitialised: the pools of all gates as the
    loops have them, and the argmax.
    """
    size = 0
    if backward:
        # Not of the layout, as a compiler may know no numbers
        sizes = [x.numel() // x.shape[AXES[axis][0]] for axis in spec.axes.all()]
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
    gates: slice  # which of all
    maps: slice  # where in flat arrays
    geometry: Array  # as :mod:`.volumes` has it
    order: Array


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
        order = np.array(
            [
                [9 // 3 ** AXES[axis][1].index(d) for d in dims[axis]]
                for axis in axes.all()
            ]
        )
        size = 0
        rows, begins = [], []
        for axis in axes.all():
            sizes = [shape[d] for d in dims[axis]]
            padded = (sizes[1] + 2) * (sizes[2] + 2)
            slices = max(2, min(sizes[0], 4096 // padded))  # what a cache holds
            rows.append((shape[0], *sizes, size, slices))
            begins.append(size)
            size += shape[0] * int(np.prod(sizes))
        geometry, ends = np.array(rows), [*begins[1:], size]
        self.size = _size(size, is_channels_last)  # elements of all maps
        where = dict(zip(axes.all(), begins))
        self.begins = tuple(where.get(axis, 0) for axis in 'CTHW')

        def group(first: int, last: int) -> _Group:
            gates, maps = slice(first, last), slice(begins[first], ends[last - 1])
            of_c = axes.all()[gates] == 'C'
            return _Group(of_c, gates, maps, geometry[gates], order[gates])

        inner, every = len(axes.inner), len(axes.all())
        self.groups = [group(inner, every)]
        if inner:
            self.groups.insert(0, group(0, inner))
        self.all = group(0, every)


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
        some = group.gates
        stats = self.stats[some]
        norms = stats, self.eps, self.scale[some], self.shift[some]
        if self.spec.batch_stats:
            response = _floats(self.layout.size)
            self._convolve(group, True, *norms, response)
            if self.spec.group:
                own = torch.from_numpy(stats)
                own.copy_(combine_stats(own, counts(group), self.spec.group))
            volumes.normalise(response, group.geometry, *norms, self.gate)
        else:
            self._convolve(group, False, *norms, self.gate)
        torch.from_numpy(self.gate[group.maps]).sigmoid_()

    def compute_again(self) -> None:
        """From saved pools to all gates, and what their norms made."""
        every = self.layout.all
        self.normed = _floats(self.layout.size)
        self._convolve(every, False, self.stats, self.eps, NONE, NONE, self.normed)
        norms = NO_STATS, self.eps, self.scale, self.shift
        volumes.normalise(self.normed, every.geometry, *norms, self.gate)
        torch.from_numpy(self.gate).sigmoid_()

    def _convolve(self, group: _Group, of_batch: bool, *norms_and_out: Array) -> None:
        *norms, out = norms_and_out
        kernels = group.geometry, group.order, self.weight[group.gates]
        volumes.convolve(self.volumes, *kernels, False, of_batch, *norms, out[None])


def counts(group: _Group) -> Tensor:
    """Values that each norm sees."""
    return torch.from_numpy(group.geometry[:, :4].prod(1))


class _Grads(NamedTuple):
    weight: Array  # [G, 54]
    norm: Array  # scale and shift [G, 2]


def _grad_gates(
    gates: _Gates, group: _Group, sums: Array, pooled: Array, grads: _Grads
) -> None:
    """From the sums of ``gradient * x`` to the gradients of parameters and, into
    ``pooled``, of pools.
    """
    spec, some, geometry = gates.spec, group.gates, group.geometry
    grad, totals = _floats(1, gates.layout.size), grads.norm[some]
    means = np.empty_like(totals)
    volumes.grad_norm(sums, gates.gate, gates.normed, geometry, grad[0], totals, means)
    if not spec.batch_stats:
        means.fill(0)  # nothing depends on the batch
    elif spec.group:
        own = torch.from_numpy(totals)
        means = mean_over_all(own, counts(group), spec.group).numpy()
    norms = gates.stats[some], gates.eps, gates.scale[some]
    volumes.grad_response(gates.normed, geometry, means, *norms, grad[0])
    kernels = geometry, group.order, gates.weight[some]
    no_norms = False, NO_STATS, gates.eps, NONE, NONE
    volumes.convolve(grad, *kernels, True, *no_norms, pooled)
    volumes.correlate(gates.volumes, grad, geometry, group.order, grads.weight[some])
