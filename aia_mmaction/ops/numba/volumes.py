"""The convolutions of the gates, on maps of every layout.

The maps of all gates of a layer lie in flat arrays ``[planes, size]``, gate
behind gate. A row of ``geometry`` says for a gate: N, D1, D2, D3, where its map
``[N, D1, D2, D3]`` begins, and of how many slices ``[D2, D3]`` an item is. Of the
two planes of pools the first has the maxima, the second the means.

Threads share the items of all gates. Each copies the slices that it needs to a
room with zeros around every slice, so that no loop asks for borders, and all
slices together are one long row. What a row has between slices counts for nothing.
"""

import numpy as np
from numba import prange

from .compiling import inline, kernel
from .rows import ONE, ZERO

TWO = np.uintp(2)
# Compilers make vectors of up to so many numbers, and leave the rest one by one.
VECTOR = np.uintp(32)
SEVEN, EIGHT = np.uintp(7), np.uintp(8)


@inline
def _items_of(geometry, g):
    return geometry[g, 0] * ((geometry[g, 1] + geometry[g, 5] - 1) // geometry[g, 5])


@inline
def _items(geometry):
    items = 0
    for g in range(geometry.shape[0]):
        items += _items_of(geometry, g)
    return items


@inline
def _find(item, geometry):
    """Number of the gate and of its sample, the first slice, and how many."""
    g = 0
    while item >= _items_of(geometry, g):
        item -= _items_of(geometry, g)
        g += 1
    slices = geometry[g, 5]
    of_sample = (geometry[g, 1] + slices - 1) // slices
    a = item % of_sample * slices
    return g, item // of_sample, a, min(slices, geometry[g, 1] - a)


@inline
def _slice(geometry, g, n, a):
    """Where a slice begins."""
    index = n * geometry[g, 1] + a
    return np.uintp(geometry[g, 4] + index * geometry[g, 2] * geometry[g, 3])


@inline
def _pad(maps, plane, geometry, g, n, first, count, out, to):
    """Copy ``count`` slices with zeros around them; slices before the first and
    after the last one are zero, and so are eight numbers behind all of them.
    """
    D2, D3 = np.uintp(geometry[g, 2]), np.uintp(geometry[g, 3])
    width = D3 + TWO
    size = (D2 + TWO) * width
    for s in range(count):
        k = to + np.uintp(s) * size
        if first + s < 0 or first + s >= geometry[g, 1]:
            for e in range(size):
                out[k + e] = 0
            continue
        for e in range(width + ONE):
            out[k + e] = 0
        begin = _slice(geometry, g, n, first + s)
        for b in range(D2):
            row = k + (b + ONE) * width + ONE
            # Eight at a time, for short rows; what is too many is written again.
            for c in range((D3 + SEVEN) // EIGHT):
                for e in range(EIGHT):
                    i = c * EIGHT + e
                    out[row + i] = maps[plane, begin + b * D3 + i]
            out[row + D3] = 0
            out[row + D3 + ONE] = 0
        for e in range(k + size - width, k + size + EIGHT):
            out[e] = 0


@inline
def _taps(weight, g, order, is_turned, plane, out):
    """The weights of a gate for one plane, in the axes of its map."""
    for j in range(3):
        for k in range(3):
            for m in range(3):
                at = j * order[g, 0] + k * order[g, 1] + m * order[g, 2]
                # The transpose of a convolution has its kernel turned round.
                out[j, k, m] = weight[g, plane * 27 + (26 - at if is_turned else at)]


@inline
def _norm(stats, eps, scale, shift, g):
    """Mean, slope and offset of a norm: ``(x - mean) * slope + offset``. It may
    have no statistics, or no scale and shift, which are empty then.
    """
    mean, slope, offset = np.float32(0), np.float32(1), np.float32(0)
    if stats.size:
        mean = stats[g, 0]
        slope = np.float32(1 / np.sqrt(stats[g, 1] + eps))
    if scale.size:
        slope *= scale[g]
        offset = shift[g]
    return mean, slope, offset


@inline
def _combine(moments, geometry, stats):
    """Mean and biased variance from the moments of each item, without the
    difference of large squares.
    """
    end = 0
    for g in range(geometry.shape[0]):
        begin, end = end, end + _items_of(geometry, g)
        number = total = squares = 0.0  # float64
        for i in range(begin, end):
            number += moments[i, 0]
            total += moments[i, 0] * moments[i, 1]
        mean = total / number
        for i in range(begin, end):
            away = moments[i, 1] - mean
            squares += moments[i, 2] + away * away * moments[i, 0]
        stats[g, 0] = mean
        stats[g, 1] = squares / number


@kernel
def convolve(
    maps,
    geometry,
    order,
    weight,
    is_turned,
    of_batch,
    stats,
    eps,
    scale,
    shift,
    out,
):
    """Convolve the maps of some gates with their kernels, and normalise them.

    Args:
        maps (float32): ``[planes, size]``.
        geometry (int64): ``[G, 6]``.
        order (int64): ``[G, 3]``, how far apart the weights of neighbours are
            along each axis of a map.
        weight (float32): ``[G, 54]``, in the axes of the reference.
        is_turned (bool): Whether to go back, from one plane to two, with the
            kernels turned round.
        of_batch (bool): Whether to write what was convolved and its ``stats``,
            instead of normalising it.
        stats (float32): Mean and biased variance ``[G, 2]``, or empty.
        eps (float32): Added to the variance.
        scale (float32): Of the norms ``[G]``, or empty, and so is ``shift``.
        out (float32): ``[outputs, size]``.
    """
    norms = np.empty((geometry.shape[0], 3), np.float32)
    for g in range(geometry.shape[0]):
        mean, slope, offset = np.float32(0), np.float32(1), np.float32(0)
        if not of_batch:
            mean, slope, offset = _norm(stats, eps, scale, shift, g)
        norms[g, 0], norms[g, 1], norms[g, 2] = mean, slope, offset
    # Number, mean and sum of squared deviations of what each item writes
    moments = np.empty((_items(geometry) if of_batch else 0, 3), np.float32)
    outputs, planes = out.shape[0], maps.shape[0]
    for item in prange(_items(geometry)):
        g, n, a, count = _find(item, geometry)
        D2, D3 = np.uintp(geometry[g, 2]), np.uintp(geometry[g, 3])
        width = D3 + TWO
        size = (D2 + TWO) * width
        length = (np.uintp(count) * size + VECTOR - ONE) // VECTOR * VECTOR
        step = np.uintp(count + 2) * size  # of a plane
        # A row reads beyond the last slice.
        room = VECTOR + width + width + ONE
        v = np.empty(np.uintp(planes) * step + room, np.float32)
        for p in range(planes):
            to = np.uintp(p) * step
            _pad(maps, p, geometry, g, n, a - 1, count + 2, v, to)
        for e in range(np.uintp(planes) * step, v.size):
            v[e] = 0
        response, w = np.empty(length, np.float32), np.empty((3, 3, 3), np.float32)
        begin = _slice(geometry, g, n, a)
        for o in range(outputs):
            for k in range(length):
                response[k] = 0
            for p in range(planes):
                _taps(weight, g, order, is_turned, o + p, w)
                for j in range(3):
                    w0, w1, w2 = w[j, 0, 0], w[j, 0, 1], w[j, 0, 2]
                    w3, w4, w5 = w[j, 1, 0], w[j, 1, 1], w[j, 1, 2]
                    w6, w7, w8 = w[j, 2, 0], w[j, 2, 1], w[j, 2, 2]
                    x = np.uintp(p) * step + np.uintp(j) * size
                    y, z = x + width, x + width + width
                    for k in range(length):
                        response[k] += (
                            w0 * v[x + k]
                            + w1 * v[x + k + ONE]
                            + w2 * v[x + k + TWO]
                            + w3 * v[y + k]
                            + w4 * v[y + k + ONE]
                            + w5 * v[y + k + TWO]
                            + w6 * v[z + k]
                            + w7 * v[z + k + ONE]
                            + w8 * v[z + k + TWO]
                        )
            mean, slope, offset = norms[g, 0], norms[g, 1], norms[g, 2]
            total = np.float64(0)
            for s in range(count):
                for b in range(D2):
                    row = np.uintp(s) * size + b * width
                    to = begin + (np.uintp(s) * D2 + b) * D3
                    of_row = np.float32(0)
                    for c in range(D3):
                        of_row += response[row + c]
                        out[o, to + c] = (response[row + c] - mean) * slope + offset
                    total += of_row
            if of_batch:
                values = np.uintp(count) * D2 * D3
                average = np.float32(total / values)
                squares = np.float32(0)
                for k in range(values):
                    away = out[o, begin + k] - average
                    squares += away * away
                moments[item, 0] = values
                moments[item, 1] = average
                moments[item, 2] = squares
    if of_batch:
        _combine(moments, geometry, stats)


@inline
def _map(geometry, g):
    """Where a gate's map begins, and its size."""
    N, D1, D2, D3 = geometry[g, 0], geometry[g, 1], geometry[g, 2], geometry[g, 3]
    return np.uintp(geometry[g, 4]), np.uintp(N * D1 * D2 * D3)


@inline
def normalise(x, geometry, stats, eps, scale, shift, out):
    """The norms of :func:`convolve` alone."""
    for g in range(geometry.shape[0]):
        k, size = _map(geometry, g)
        mean, slope, offset = _norm(stats, eps, scale, shift, g)
        for e in range(size):
            out[k + e] = (x[k + e] - mean) * slope + offset


@inline
def grad_norm(sums, gate, normed, geometry, out, totals, means):
    """From the sums of ``gradient * x`` to the gradients of what each norm made,
    ``out``, and of its scale and shift: all together, ``totals [G, 2]``, and their
    ``means`` over the map.

    Added up in pieces, so that float32 is exact enough for millions.
    """
    share, piece = np.float32(1 / geometry.shape[0]), np.uintp(1024)
    for g in range(geometry.shape[0]):
        begin, size = _map(geometry, g)
        of_scale = of_shift = np.float64(0)
        for i in range((size + piece - ONE) // piece):
            k = begin + i * piece
            a = b = np.float32(0)
            for e in range(min(piece, size - i * piece)):
                s = gate[k + e]
                v = sums[k + e] * share * s * (1 - s)
                a += v * normed[k + e]
                b += v
                out[k + e] = v
            of_scale += a
            of_shift += b
        totals[g, 0], totals[g, 1] = of_scale, of_shift
        means[g, 0], means[g, 1] = of_scale / size, of_shift / size


@inline
def grad_response(normed, geometry, means, stats, eps, scale, grad):
    """Through the norms, in place; ``means [G, 2]`` are of what depends on the
    batch.
    """
    for g in range(geometry.shape[0]):
        k, size = _map(geometry, g)
        factor = np.float32(scale[g] / np.sqrt(stats[g, 1] + eps))
        of_scale, of_shift = means[g, 0], means[g, 1]
        for e in range(size):
            grad[k + e] = (grad[k + e] - of_shift - normed[k + e] * of_scale) * factor


@kernel
def correlate(maps, grad, geometry, order, out):
    """Gradients of the kernels ``[G, 54]``, from pools and the gradients of what
    they were convolved to, ``grad [1, size]``.
    """
    parts = np.empty((_items(geometry), 54), np.float32)
    for item in prange(_items(geometry)):
        g, n, a, count = _find(item, geometry)
        width = np.uintp(geometry[g, 3]) + TWO
        size = (np.uintp(geometry[g, 2]) + TWO) * width
        length = (np.uintp(count) * size + VECTOR - ONE) // VECTOR * VECTOR
        # A row reads beyond the last slice, where ``y`` is zero.
        room = VECTOR + width + width + ONE
        v = np.zeros(np.uintp(count + 2) * size + room, np.float32)
        y = np.zeros(length + width + EIGHT, np.float32)
        _pad(grad, 0, geometry, g, n, a, count, y, ZERO)
        for p in range(2):
            _pad(maps, p, geometry, g, n, a - 1, count + 2, v, ZERO)
            for j in range(3):
                for k in range(3):
                    left = middle = right = np.float32(0)
                    x = np.uintp(j) * size + np.uintp(k) * width
                    for i in range(length):
                        of_grad = y[i + width + ONE]
                        left += of_grad * v[x + i]
                        middle += of_grad * v[x + i + ONE]
                        right += of_grad * v[x + i + TWO]
                    at = p * 27 + j * order[g, 0] + k * order[g, 1]
                    parts[item, at] = left
                    parts[item, at + order[g, 2]] = middle
                    parts[item, at + 2 * order[g, 2]] = right
    end = 0
    for g in range(geometry.shape[0]):
        begin, end = end, end + _items_of(geometry, g)
        for k in range(54):
            total = 0.0  # float64
            for i in range(begin, end):
                total += parts[i, k]
            out[g, k] = total
