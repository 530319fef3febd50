"""Passes over what is as large as ``x``: ``[N, T, H, W, C]``, contiguous.

Every inner loop is over channels, or over the pixels and channels of a row.
The axes of the volumes are (T, H, W) for the C gate, (H, W, C) for T, (T, W, C)
for H and (T, H, C) for W. An ``argmax`` is filled unless it is empty. The
gradients of pools are maps of two planes, of the maxima and of the means.

Loops over ``prange`` are shared by threads. Each writes what no other does, in
an order that does not depend on their number.
"""

import numpy as np
from numba import prange

from .compiling import inline, kernel

NOTHING = np.float32(-np.inf)
THIRD = np.float32(1 / 3)


@inline
def _ordered(bits):
    """From the bits of a float to an integer of the same order, and back."""
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(2**31 - 1)))


@inline
def _largest(row):
    """The largest element.

    As integers, because compilers make no vectors of the maximum of floats,
    among which NaN might be.
    """
    largest = np.int32(-(2**31))
    for c in range(row.size):
        largest = max(largest, _ordered(np.float32(row[c]).view(np.int32)))
    return np.int32(_ordered(largest)).view(np.float32)


@inline
def _first(row, value):
    """Index of the first element that equals ``value``."""
    last = np.int32(row.size - 1)
    found = last
    for c in range(row.size):
        found = min(found, np.int32(c) if row[c] == value else last)
    return found


@inline
def _weigh_row(x, gate_t, gate_h, gate_w, out):
    """A row ``[W, C]`` times the mean of its gates, ``[W, C]``, ``[W, C]`` and
    ``[C]``.
    """
    for w in range(x.shape[0]):
        for c in range(x.shape[1]):
            out[w, c] = x[w, c] * ((gate_t[w, c] + gate_h[w, c] + gate_w[c]) * THIRD)


@inline
def _scale_row(x, gate, out):
    """A row ``[W, C]`` times its C gate ``[W]``."""
    for w in range(x.shape[0]):
        g = gate[w]
        for c in range(x.shape[1]):
            out[w, c] = x[w, c] * g


@kernel
def pool_c(x, nested, gate_t, gate_h, gate_w, volume, argmax):
    """Pool ``x`` over C, or if ``nested`` ``x`` times the mean of the gates.

    An ``argmax``, here and below, is filled unless it is empty.
    """
    N, T, H, W, C = x.shape
    for i in prange(N * T * H):
        n, t, h = i // (T * H), i // H % T, i % H
        z = x[n, t, h]
        if nested:
            z = np.empty((W, C), np.float32)
            _weigh_row(x[n, t, h], gate_t[n, h], gate_h[n, t], gate_w[n, t, h], z)
        for w in range(W):
            total = np.float32(0)
            for c in range(C):
                total += z[w, c]
            largest = _largest(z[w])
            volume[n, 0, t + 1, h + 1, w + 1] = largest
            volume[n, 1, t + 1, h + 1, w + 1] = total / C
            if argmax.size:
                argmax[n, t, h, w] = _first(z[w], largest)


@inline
def _start(largest, total, argmax):
    """Begin a pool of rows; ``largest`` and ``total [W + 2, C + 2]`` have
    borders.
    """
    for w in range(largest.shape[0] - 2):
        for c in range(largest.shape[1] - 2):
            largest[w + 1, c + 1] = NOTHING
            total[w + 1, c + 1] = 0
    for w in range(argmax.shape[0]):
        for c in range(argmax.shape[1]):
            argmax[w, c] = 0


@inline
def _add(z, index, largest, total, argmax):
    """Add row ``index``, ``z [W, C]``, to a pool of rows."""
    for w in range(z.shape[0]):
        for c in range(z.shape[1]):
            v = z[w, c]
            better = v > largest[w + 1, c + 1]
            total[w + 1, c + 1] += v
            largest[w + 1, c + 1] = v if better else largest[w + 1, c + 1]
            if argmax.size:
                argmax[w, c] = index if better else argmax[w, c]


@inline
def _divide(total, count):
    for w in range(total.shape[0] - 2):
        for c in range(total.shape[1] - 2):
            total[w + 1, c + 1] /= count


@kernel
def pool_thw(
    x,
    nested,
    gate,
    volume_t,
    volume_h,
    volume_w,
    argmax_t,
    argmax_h,
    argmax_w,
):
    """Pool ``x`` over T, over H and over W, or if ``nested`` ``x`` times its C
    gate.
    """
    N, T, H, W, C = x.shape
    for i in prange(N * H):
        n, h = i // H, i % H
        row = np.empty((W, C), np.float32)
        largest, total = volume_t[n, 0, h + 1], volume_t[n, 1, h + 1]
        _start(largest, total, argmax_t[n, h])
        for t in range(T):
            z = x[n, t, h]
            if nested:
                _scale_row(x[n, t, h], gate[n, t, h], row)
                z = row
            _add(z, np.int16(t), largest, total, argmax_t[n, h])
            # Pixel by pixel, into rows [1, C]
            largest_w = volume_w[n, 0, t + 1, h : h + 3]
            total_w = volume_w[n, 1, t + 1, h : h + 3]
            argmax = argmax_w[n, t, h : h + 1]
            _start(largest_w, total_w, argmax)
            for w in range(W):
                _add(z[w : w + 1], np.int16(w), largest_w, total_w, argmax)
            _divide(total_w, W)
        _divide(total, T)
    for i in prange(N * T):
        n, t = i // T, i % T
        row = np.empty((W, C), np.float32)
        largest, total = volume_h[n, 0, t + 1], volume_h[n, 1, t + 1]
        _start(largest, total, argmax_h[n, t])
        for h in range(H):
            z = x[n, t, h]
            if nested:
                _scale_row(x[n, t, h], gate[n, t, h], row)
                z = row
            _add(z, np.int16(h), largest, total, argmax_h[n, t])
        _divide(total, H)


@inline
def _write(z, relu, out):
    # Through a row of its own, as ``out`` may be ``x``: of loops that write
    # what they read, compilers make no vectors.
    for w in range(z.shape[0]):
        for c in range(z.shape[1]):
            v = z[w, c]
            # Not the maximum of v and 0, which NaN is not always.
            out[w, c] = np.float32(0) if relu and v <= 0 else v


@kernel
def weigh_c(x, out, gate, relu):
    """``x`` times its C gate; ``out`` may be ``x``."""
    N, T, H, W, C = x.shape
    for i in prange(N * T * H):
        n, t, h = i // (T * H), i // H % T, i % H
        row = np.empty((W, C), np.float32)
        _scale_row(x[n, t, h], gate[n, t, h], row)
        _write(row, relu, out[n, t, h])


@kernel
def weigh_thw(x, out, gate_t, gate_h, gate_w, relu):
    """``x`` times the mean of its T, H and W gates; ``out`` may be ``x``."""
    N, T, H, W, C = x.shape
    for i in prange(N * T * H):
        n, t, h = i // (T * H), i // H % T, i % H
        row = np.empty((W, C), np.float32)
        _weigh_row(x[n, t, h], gate_t[n, h], gate_h[n, t], gate_w[n, t, h], row)
        _write(row, relu, out[n, t, h])


@kernel
def sum_c(a, b, out):
    """Sum of ``a * b`` over C."""
    N, T, H, W, C = a.shape
    for i in prange(N * T * H):
        n, t, h = i // (T * H), i // H % T, i % H
        for w in range(W):
            total = np.float32(0)
            for c in range(C):
                total += a[n, t, h, w, c] * b[n, t, h, w, c]
            out[n, t, h, w] = total


@kernel
def sum_thw(a, b, over_t, over_h, over_w):
    """Sums of ``a * b`` over T, over H and over W."""
    N, T, H, W, C = a.shape
    for i in prange(N * H):
        n, h = i // H, i % H
        for w in range(W):
            for c in range(C):
                over_t[n, h, w, c] = 0
        for t in range(T):
            for c in range(C):
                over_w[n, t, h, c] = 0
            for w in range(W):
                for c in range(C):
                    v = a[n, t, h, w, c] * b[n, t, h, w, c]
                    over_t[n, h, w, c] += v
                    over_w[n, t, h, c] += v
    for i in prange(N * T):
        n, t = i // T, i % T
        for w in range(W):
            for c in range(C):
                over_h[n, t, w, c] = 0
        for h in range(H):
            for w in range(W):
                for c in range(C):
                    over_h[n, t, w, c] += a[n, t, h, w, c] * b[n, t, h, w, c]


@kernel
def add_through_c(grad_z, out, nested, gate, grad, argmax):
    """Add what comes through the pool over C to the gradient of ``x``, and if
    ``nested`` ``grad_z`` times the C gate.
    """
    N, T, H, W, C = out.shape
    for i in prange(N * T * H):
        n, t, h = i // (T * H), i // H % T, i % H
        for w in range(W):
            mean = grad[n, 1, t, h, w] / C
            if nested:
                g = gate[n, t, h, w]
                for c in range(C):
                    out[n, t, h, w, c] += grad_z[n, t, h, w, c] * g + mean
            else:
                for c in range(C):
                    out[n, t, h, w, c] += mean
            out[n, t, h, w, argmax[n, t, h, w]] += grad[n, 0, t, h, w]


@kernel
def add_through_thw(
    grad_z,
    out,
    nested,
    gate_t,
    gate_h,
    gate_w,
    grad_t,
    grad_h,
    grad_w,
    argmax_t,
    argmax_h,
    argmax_w,
):
    """Add what comes through the pools over T, H and W, and if ``nested``
    ``grad_z`` times the mean of their gates.
    """
    N, T, H, W, C = out.shape
    for i in prange(N * T * H):
        n, t, h = i // (T * H), i // H % T, i % H
        row = np.zeros((W, C), np.float32)
        if nested:
            _weigh_row(
                grad_z[n, t, h], gate_t[n, h], gate_h[n, t], gate_w[n, t, h], row
            )
        _add_pool(row, np.int16(t), grad_t[n, 0, h], grad_t[n, 1, h], argmax_t[n, h], T)
        _add_pool(row, np.int16(h), grad_h[n, 0, t], grad_h[n, 1, t], argmax_h[n, t], H)
        maximum, mean = grad_w[n, 0, t, h], grad_w[n, 1, t, h]
        where = argmax_w[n, t, h]
        for w in range(W):
            for c in range(C):
                v = row[w, c] + mean[c] / W
                v += maximum[c] if where[c] == np.int16(w) else np.float32(0)
                out[n, t, h, w, c] += v


@inline
def _add_pool(row, index, maximum, mean, argmax, count):
    """Add what a row ``index`` gets from a pool of ``count`` rows."""
    for w in range(row.shape[0]):
        for c in range(row.shape[1]):
            v = mean[w, c] / count
            v += maximum[w, c] if argmax[w, c] == index else np.float32(0)
            row[w, c] += v


@kernel
def transpose(x, out, count, rows, columns):
    """Flat ``[count, rows, columns]`` to ``[count, columns, rows]``."""
    width = 16  # of memory that is written at once: a line of the cache
    blocks = (rows + width - 1) // width
    for i in prange(count * blocks):
        n, begin = i // blocks, i % blocks * width
        size = min(width, rows - begin)
        at = (n * rows + begin) * columns
        block = x[at : at + size * columns]
        to = out[n * rows * columns + begin : (n + 1) * rows * columns]
        for c in range(columns):
            line = to[c * rows : c * rows + size]
            if size == width:  # known to the compiler
                for r in range(width):
                    line[r] = block[r * columns + c]
            else:
                for r in range(size):
                    line[r] = block[r * columns + c]
