"""Passes over ``x`` in planes ``[H, W]``: NCHW and NCTHW.

Each function has its like in :mod:`.channels_last`. Both take flat arrays:

- ``x``, ``grad``, ``out``: plane (n, t, c) begins at ``n * steps[0] + t *
  steps[1] + c * steps[2]``,
- maps: ``gate``, ``largest`` and ``mean`` of pools or what comes back through
  them, ``argmax`` (empty if nobody wants it) and ``sums``. In each of them the
  map of C ``[N, T, H, W]`` begins at ``begins[0]``, of T ``[N, C, H, W]`` at
  ``begins[1]``, of H ``[N, T, C, W]`` at ``begins[2]`` and of W
  ``[N, T, C, H]`` at ``begins[3]``.

``shape`` is ``(N, C, T, H, W)``. Small planes are taken several at a time, a
*block* ``[count, H, W]`` of channels, so that there are long rows.

Loops over ``prange`` are shared by threads. Each item writes what no other does,
in an order that does not depend on their number.
"""

import numpy as np
from numba import prange

from .compiling import inline, kernel
from .rows import (
    ONE,
    ZERO,
    add_to_pool,
    fill,
    pool_over_rows,
    pool_within_rows,
    start_pool,
    unsigned,
)

BLOCK = np.uintp(4096)  # pixels
EIGHT = np.uintp(8)  # blocks at least, for as many threads
THIRD = np.float32(1 / 3)


@inline
def _channels_of_block(C, P):
    return max(ONE, min(C // EIGHT, BLOCK // P))


@inline
def _plane(steps, n, t, c):
    return n * np.uintp(steps[0]) + t * np.uintp(steps[1]) + c * np.uintp(steps[2])


@inline
def _at(begins, shape, n, t, c):
    """Where the maps of a block begin."""
    N, C, T, H, W = unsigned(shape)
    frame = n * T + t
    return (
        np.uintp(begins[0]) + frame * H * W,
        np.uintp(begins[1]) + (n * C + c) * H * W,
        np.uintp(begins[2]) + (frame * C + c) * W,
        np.uintp(begins[3]) + (frame * C + c) * H,
    )


@inline
def _spread(maps, at, factor_h, factor_w, H, W, count, out):
    """``[count, W] * factor_h + [count, H] * factor_w`` of a block's maps."""
    for j in range(count):
        columns, rows = at[2] + j * W, at[3] + j * H
        for h in range(H):
            v = maps[rows + h] * factor_w
            k = (j * H + h) * W
            for w in range(W):
                out[k + w] = maps[columns + w] * factor_h + v


@inline
def _gates(of_c, gate, at, H, W, count, out):
    """What a block is multiplied by: its C gate, or the mean of the others."""
    P = H * W
    if of_c:
        for j in range(count):
            for p in range(P):
                out[j * P + p] = gate[at[0] + p]
    else:
        _spread(gate, at, THIRD, THIRD, H, W, count, out)
        for k in range(count * P):
            out[k] += gate[at[1] + k] * THIRD


@inline
def _through(of_c, largest, mean, argmax, at, shape, t, c, count, out):
    """What comes back to a block through a pool over C, or through the others."""
    N, C, T, H, W = unsigned(shape)
    P = H * W
    if of_c:
        share = np.float32(1 / C)
        for j in range(count):
            index = np.int16(c + j)
            for p in range(P):
                v = largest[at[0] + p]
                v = v if argmax[at[0] + p] == index else np.float32(0)
                out[j * P + p] = mean[at[0] + p] * share + v
    else:
        _spread(mean, at, np.float32(1 / H), np.float32(1 / W), H, W, count, out)
        share, index = np.float32(1 / T), np.int16(t)
        for k in range(count * P):
            v = largest[at[1] + k]
            v = v if argmax[at[1] + k] == index else np.float32(0)
            out[k] += mean[at[1] + k] * share + v
        for j in range(count):
            for w in range(W):
                k = at[2] + j * W + w
                out[(j * H + np.uintp(argmax[k])) * W + w] += largest[k]
            for h in range(H):
                k = at[3] + j * H + h
                out[(j * H + h) * W + np.uintp(argmax[k])] += largest[k]


@kernel
def pool_c(x, steps, shape, begins, nested, gate, largest, mean, argmax):
    """Pool ``x`` over C, or if ``nested`` ``x`` times the mean of its gates."""
    N, C, T, H, W = unsigned(shape)
    P = H * W
    block = _channels_of_block(C, P)
    for i in prange(N * T):
        n, t = i // T, i % T
        # Of its own, as threads that write to one line of memory wait
        best, total = np.empty(P, np.float32), np.empty(P, np.float32)
        where = np.empty(P if argmax.size else ZERO, np.int16)
        start_pool(best, total, where, ZERO, P)
        z = np.empty(block * P, np.float32)
        for b in range((C + block - ONE) // block):
            c = b * block
            count = min(block, C - c)
            if nested:
                _gates(False, gate, _at(begins, shape, n, t, c), H, W, count, z)
            for j in range(count):
                plane, index = _plane(steps, n, t, c + j), np.int16(c + j)
                for p in range(P):
                    v = x[plane + p]
                    if nested:
                        v *= z[j * P + p]
                    better = v > best[p]
                    total[p] += v
                    best[p] = v if better else best[p]
                    if argmax.size:
                        where[p] = index if better else where[p]
        to = np.uintp(begins[0]) + i * P
        for p in range(P):
            largest[to + p] = best[p]
            mean[to + p] = total[p] / C
            if argmax.size:
                argmax[to + p] = where[p]


@kernel
def pool_thw(x, steps, shape, begins, nested, gate, largest, mean, argmax):
    """Pool ``x`` over T, H and W, or if ``nested`` ``x`` times its C gate."""
    N, C, T, H, W = unsigned(shape)
    P = H * W
    block = _channels_of_block(C, P)
    blocks = (C + block - ONE) // block
    for i in prange(N * blocks):
        n, c = i // blocks, i % blocks * block
        count = min(block, C - c)
        size = count * P
        z, best, total = (
            np.empty(size, np.float32),
            np.empty(size, np.float32),
            np.empty(size, np.float32),
        )
        index = np.empty(size if argmax.size else ZERO, np.int16)
        start_pool(best, total, index, ZERO, size)
        for t in range(T):
            at = _at(begins, shape, n, t, c)
            for j in range(count):
                plane = _plane(steps, n, t, c + j)
                for h in range(H):
                    k = (h * count + j) * W
                    if nested:
                        for w in range(W):
                            z[k + w] = x[plane + h * W + w] * gate[at[0] + h * W + w]
                    else:
                        for w in range(W):
                            z[k + w] = x[plane + h * W + w]
            add_to_pool(z, ZERO, np.int16(t), best, total, index, ZERO, size)
            pool_over_rows(z, H, count * W, largest, mean, argmax, at[2])
            pool_within_rows(z, ZERO, H, count, W, largest, mean, argmax, at[3])
        at = _at(begins, shape, n, ZERO, c)
        for j in range(count):
            for h in range(H):
                k, to = (h * count + j) * W, at[1] + (j * H + h) * W
                for w in range(W):
                    largest[to + w] = best[k + w]
                    mean[to + w] = total[k + w] / T
                    if argmax.size:
                        argmax[to + w] = index[k + w]


@kernel
def weigh(x, steps, out, steps_out, shape, begins, of_c, gate, relu):
    """``x`` times its C gate, or the mean of the others; ``out`` may be ``x``."""
    N, C, T, H, W = unsigned(shape)
    P = H * W
    block = _channels_of_block(C, P)
    blocks = (C + block - ONE) // block
    for i in prange(N * T * blocks):
        n, t, c = i // (T * blocks), i // blocks % T, i % blocks * block
        count = min(block, C - c)
        z = np.empty(count * P, np.float32)
        _gates(of_c, gate, _at(begins, shape, n, t, c), H, W, count, z)
        for j in range(count):
            plane, to = _plane(steps, n, t, c + j), _plane(steps_out, n, t, c + j)
            for p in range(P):
                v = z[j * P + p] * x[plane + p]
                z[j * P + p] = np.float32(0) if relu and v <= 0 else v
            for p in range(P):
                out[to + p] = z[j * P + p]


@kernel
def sum_c(
    x, steps, grad, steps_grad, shape, begins, nested, relu, largest, mean, argmax, sums
):
    """Sums over C of ``x * grad``, or if ``nested`` of ``x`` times what comes back
    through the pools over T, H and W.
    """
    N, C, T, H, W = unsigned(shape)
    P = H * W
    block = _channels_of_block(C, P)
    for i in prange(N * T):
        n, t = i // T, i % T
        total = np.zeros(P, np.float32)
        z = np.empty(block * P, np.float32)
        for b in range((C + block - ONE) // block):
            c = b * block
            count = min(block, C - c)
            if nested:
                at = _at(begins, shape, n, t, c)
                _through(False, largest, mean, argmax, at, shape, t, c, count, z)
            for j in range(count):
                k, g = _plane(steps, n, t, c + j), _plane(steps_grad, n, t, c + j)
                if nested:
                    for p in range(P):
                        total[p] += x[k + p] * z[j * P + p]
                else:
                    for p in range(P):
                        v = x[k + p] * grad[g + p]
                        negative = relu and x[k + p] <= 0
                        total[p] += np.float32(0) if negative else v
        to = np.uintp(begins[0]) + i * P
        for p in range(P):
            sums[to + p] = total[p]


@kernel
def sum_thw(
    x, steps, grad, steps_grad, shape, begins, nested, relu, largest, mean, argmax, sums
):
    """Sums over T, H and W of ``x * grad``, or if ``nested`` of ``x`` times what
    comes back through the pool over C.
    """
    N, C, T, H, W = unsigned(shape)
    P = H * W
    block = _channels_of_block(C, P)
    blocks = (C + block - ONE) // block
    share = np.float32(1 / C)
    for i in prange(N * blocks):
        n, c = i // blocks, i % blocks * block
        count = min(block, C - c)
        size = count * P
        z, total = np.empty(size, np.float32), np.zeros(size, np.float32)
        for t in range(T):
            at = _at(begins, shape, n, t, c)
            for j in range(count):
                plane, of_grad = (
                    _plane(steps, n, t, c + j),
                    _plane(steps_grad, n, t, c + j),
                )
                index = np.int16(c + j)
                for h in range(H):
                    k, to = plane + h * W, (h * count + j) * W
                    g, a = of_grad + h * W, at[0] + h * W
                    if nested:
                        for w in range(W):
                            v = largest[a + w]
                            v = v if argmax[a + w] == index else np.float32(0)
                            z[to + w] = x[k + w] * (mean[a + w] * share + v)
                    else:
                        for w in range(W):
                            v = x[k + w] * grad[g + w]
                            negative = relu and x[k + w] <= 0
                            z[to + w] = np.float32(0) if negative else v
            for k in range(size):
                total[k] += z[k]
            fill(sums, at[2], count * W, np.float32(0))
            for h in range(H):
                for k in range(count * W):
                    sums[at[2] + k] += z[h * count * W + k]
                for j in range(count):
                    of_row = np.float32(0)
                    for w in range(W):
                        of_row += z[(h * count + j) * W + w]
                    sums[at[3] + j * H + h] = of_row
        at = _at(begins, shape, n, ZERO, c)
        for j in range(count):
            for h in range(H):
                for w in range(W):
                    sums[at[1] + (j * H + h) * W + w] = total[(h * count + j) * W + w]


@kernel
def grad_x(
    x,
    steps,
    grad,
    steps_grad,
    out,
    steps_out,
    shape,
    begins,
    nested,
    of_c,
    relu,
    gate,
    largest,
    mean,
    argmax,
):
    """The gradient of ``x``: through the product with the outer gates, of C if
    ``of_c`` and else of T, H and W, through their pools, and if ``nested`` through
    the inner ones.
    """
    N, C, T, H, W = unsigned(shape)
    P = H * W
    block = _channels_of_block(C, P)
    blocks = (C + block - ONE) // block
    for i in prange(N * T * blocks):
        n, t, c = i // (T * blocks), i // blocks % T, i % blocks * block
        count = min(block, C - c)
        size = count * P
        z, y = np.empty(size, np.float32), np.empty(size, np.float32)
        at = _at(begins, shape, n, t, c)
        _gates(of_c, gate, at, H, W, count, z)
        for j in range(count):
            k, g = _plane(steps, n, t, c + j), _plane(steps_grad, n, t, c + j)
            for p in range(P):
                v = z[j * P + p] * grad[g + p]
                z[j * P + p] = np.float32(0) if relu and x[k + p] <= 0 else v
        _through(of_c, largest, mean, argmax, at, shape, t, c, count, y)
        if nested:
            u = np.empty(size, np.float32)
            _gates(not of_c, gate, at, H, W, count, u)
            for k in range(size):
                z[k] += y[k] * u[k]
            _through(not of_c, largest, mean, argmax, at, shape, t, c, count, y)
        for j in range(count):
            to = _plane(steps_out, n, t, c + j)
            for p in range(P):
                out[to + p] = z[j * P + p] + y[j * P + p]
