"""From pooled volumes to gates, and back: the small part of the attention.

A *volume* is ``[N, planes, D1 + 2, D2 + 2, D3 + 2]`` with zeros around, so that
no loop asks for borders; of two planes the first has the maxima, the second the
means. A *map* is a volume without borders.

The volumes and the maps of all gates of a layer lie in flat arrays, gate behind
gate. A row of ``geometry`` says for a gate: N, D1, D2, D3, and where it begins
in a flat array of maps with borders and in one of maps without, of one plane. An
*item* is a slice ``[D2, D3]`` of a gate; threads share the items of all gates.
"""

import numpy as np
from numba import prange

from .compiling import inline, kernel


@inline
def _items(geometry):
    items = 0
    for g in range(geometry.shape[0]):
        items += geometry[g, 0] * geometry[g, 1]
    return items


@inline
def _find(item, geometry):
    """Number of the gate, sample and slice of an item."""
    g = 0
    while item >= geometry[g, 0] * geometry[g, 1]:
        item -= geometry[g, 0] * geometry[g, 1]
        g += 1
    return g, item // geometry[g, 1], item % geometry[g, 1]


@inline
def _slice(maps, geometry, g, index):
    """Slice number ``index`` of a gate, flat, of maps without borders."""
    size = geometry[g, 2] * geometry[g, 3]
    begin = geometry[g, 5] + index * size
    return maps[begin : begin + size]


@inline
def _padded_slice(volumes, geometry, g, planes, n, plane, a):
    """A slice of a volume with borders, flat."""
    size = (geometry[g, 2] + 2) * (geometry[g, 3] + 2)
    index = (n * planes + plane) * (geometry[g, 1] + 2) + a
    begin = planes * geometry[g, 4] + index * size
    return volumes[begin : begin + size]


@inline
def _padded_slices(geometry, g):
    """Slices of a volume of two planes, borders included."""
    return geometry[g, 0] * 2 * (geometry[g, 1] + 2)


@inline
def _find_padded(index, geometry):
    """Number of the gate and the slice, of all slices."""
    g = 0
    while index >= _padded_slices(geometry, g):
        index -= _padded_slices(geometry, g)
        g += 1
    return g, index


@inline
def _clear(v, begin, end, step):
    for k in range(begin, end, step):
        v[k] = 0


@inline
def _clear_slice(v, is_border, width):
    """Zeros around a flat slice, or all over it."""
    _clear(v, 0, v.size if is_border else width, 1)
    _clear(v, v.size - width, v.size, 1)
    _clear(v, width, v.size, width)
    _clear(v, width - 1, v.size, width)


@kernel
def clear_borders(volumes, geometry):
    """Write zeros around volumes of two planes."""
    slices = 0
    for g in range(geometry.shape[0]):
        slices += _padded_slices(geometry, g)
    for i in prange(slices):
        g, index = _find_padded(i, geometry)
        a, width = index % (geometry[g, 1] + 2), geometry[g, 3] + 2
        size = (geometry[g, 2] + 2) * width
        begin = 2 * geometry[g, 4] + index * size
        is_border = a == 0 or a == geometry[g, 1] + 1
        _clear_slice(volumes[begin : begin + size], is_border, width)


@inline
def _taps(v, w, width, out):
    """Add what 3x3 weights make of a slice, both flat, with rows of ``width``."""
    length = out.size
    a, b, c = v[:length], v[1:], v[2:]
    d, e, f = v[width:], v[width + 1 :], v[width + 2 :]
    g, h, i = v[2 * width :], v[2 * width + 1 :], v[2 * width + 2 :]
    for k in range(length):
        out[k] += (
            w[0, 0] * a[k]
            + w[0, 1] * b[k]
            + w[0, 2] * c[k]
            + w[1, 0] * d[k]
            + w[1, 1] * e[k]
            + w[1, 2] * f[k]
            + w[2, 0] * g[k]
            + w[2, 1] * h[k]
            + w[2, 2] * i[k]
        )


@kernel
def convolve(volumes, geometry, weight, out, moments):
    """Convolve volumes with ``weight [G, outputs, planes, 3, 3, 3]``.

    ``out`` gets maps of ``outputs`` planes. ``moments [items, 2]`` gets mean and
    sum of squared deviations of each item of a single output, unless it is
    empty.
    """
    outputs, planes = weight.shape[1], weight.shape[2]
    for item in prange(_items(geometry)):
        g, n, a = _find(item, geometry)
        D1, D2, D3 = geometry[g, 1], geometry[g, 2], geometry[g, 3]
        width = D3 + 2
        response = np.empty(D2 * width - 2, np.float32)
        for o in range(outputs):
            for k in range(response.size):
                response[k] = 0
            for p in range(planes):
                for j in range(3):
                    v = _padded_slice(volumes, geometry, g, planes, n, p, a + j)
                    _taps(v, weight[g, o, p, j], width, response)
            begin = outputs * geometry[g, 5] + ((n * outputs + o) * D1 + a) * D2 * D3
            total = np.float32(0)
            for b in range(D2):
                row = response[b * width : b * width + D3]
                to = out[begin + b * D3 : begin + (b + 1) * D3]
                for c in range(D3):
                    to[c] = row[c]
                    total += row[c]
            if moments.size:
                mean = total / np.float32(D2 * D3)
                squares = np.float32(0)
                to = out[begin : begin + D2 * D3]
                for k in range(D2 * D3):
                    squares += (to[k] - mean) * (to[k] - mean)
                moments[item, 0] = mean
                moments[item, 1] = squares


@inline
def sum_items(items, geometry, out):
    """Sums ``[G, n]`` of what each item ``[items, n]`` found."""
    item = 0
    for g in range(geometry.shape[0]):
        for k in range(items.shape[1]):
            total = 0.0  # float64
            for i in range(geometry[g, 0] * geometry[g, 1]):
                total += items[item + i, k]
            out[g, k] = total
        item += geometry[g, 0] * geometry[g, 1]


@inline
def combine_moments(moments, geometry, stats):
    """Mean and biased variance ``[G, 2]`` from the moments of each item, without
    the difference of large squares.
    """
    item = 0
    for g in range(geometry.shape[0]):
        items = geometry[g, 0] * geometry[g, 1]
        total = squares = 0.0  # float64
        for i in range(items):
            total += moments[item + i, 0]
        mean = total / items
        count = geometry[g, 2] * geometry[g, 3]  # of an item
        for i in range(items):
            away = moments[item + i, 0] - mean
            squares += moments[item + i, 1] + away * away * count
        stats[g, 0] = mean
        stats[g, 1] = squares / (items * count)
        item += items


@kernel
def normalise(response, geometry, slope, offset, out):
    """``response * slope + offset`` of each gate."""
    for item in prange(_items(geometry)):
        g, n, a = _find(item, geometry)
        index = n * geometry[g, 1] + a
        v = _slice(response, geometry, g, index)
        to = _slice(out, geometry, g, index)
        k, m = slope[g], offset[g]
        for i in range(v.size):
            to[i] = v[i] * k + m


@kernel
def grad_norm(product, gate, response, geometry, share, mean, deviation, out, sums):
    """From the sums of ``gradient * x`` along a gate's axis to the gradient of
    its norm's output, into a volume of one plane.

    ``sums [items, 2]`` get what the gradients of the norm's weight and bias are
    made of.
    """
    for item in prange(_items(geometry)):
        g, n, a = _find(item, geometry)
        D2, D3 = geometry[g, 2], geometry[g, 3]
        index = n * geometry[g, 1] + a
        p = _slice(product, geometry, g, index)
        s = _slice(gate, geometry, g, index)
        r = _slice(response, geometry, g, index)
        to = _padded_slice(out, geometry, g, 1, n, 0, a + 1)
        scale = shift = np.float32(0)
        of_share, of_mean, of_deviation = share[g], mean[g], deviation[g]
        for b in range(D2):
            begin = (b + 1) * (D3 + 2) + 1
            row = to[begin : begin + D3]
            x, y, z = p[b * D3 :], s[b * D3 :], r[b * D3 :]
            for c in range(D3):
                v = x[c] * of_share * y[c] * (1 - y[c])
                scale += v * ((z[c] - of_mean) * of_deviation)
                shift += v
                row[c] = v
        sums[item, 0] = scale
        sums[item, 1] = shift


@kernel
def grad_response(response, geometry, mean, deviation, a_scale, a_shift, factor, out):
    """Through the norm, in place: ``(grad - a_shift - normed * a_scale) *
    factor``, where the first two are the means of what depends on the batch.
    """
    for item in prange(_items(geometry)):
        g, n, a = _find(item, geometry)
        D2, D3 = geometry[g, 2], geometry[g, 3]
        r = _slice(response, geometry, g, n * geometry[g, 1] + a)
        to = _padded_slice(out, geometry, g, 1, n, 0, a + 1)
        of_mean, of_deviation = mean[g], deviation[g]
        scale, shift, k = a_scale[g], a_shift[g], factor[g]
        for b in range(D2):
            begin = (b + 1) * (D3 + 2) + 1
            row, z = to[begin : begin + D3], r[b * D3 :]
            for c in range(D3):
                normed = (z[c] - of_mean) * of_deviation
                row[c] = (row[c] - shift - normed * scale) * k


@kernel
def correlate(volumes, grad, geometry, out):
    """Gradients of the kernels, in parts ``[items, 2, 3, 3, 3]``, from pooled
    volumes and the gradients of what they were convolved to, with borders.
    """
    for item in prange(_items(geometry)):
        g, n, a = _find(item, geometry)
        width = geometry[g, 3] + 2
        length = geometry[g, 2] * width - 2
        y = _padded_slice(grad, geometry, g, 1, n, 0, a + 1)[width + 1 :]
        for p in range(2):
            for j in range(3):
                v = _padded_slice(volumes, geometry, g, 2, n, p, a + j)
                for k in range(3):
                    row = v[k * width :]
                    left = middle = right = np.float32(0)
                    x0, x1, x2 = row[:length], row[1:], row[2:]
                    for i in range(length):
                        left += y[i] * x0[i]
                        middle += y[i] * x1[i]
                        right += y[i] * x2[i]
                    out[item, p, j, k, 0] = left
                    out[item, p, j, k, 1] = middle
                    out[item, p, j, k, 2] = right
