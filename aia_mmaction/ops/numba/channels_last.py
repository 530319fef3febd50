"""Passes over ``x`` in lines ``[W, C]``: channels_last.

The functions of :mod:`.planar`, which says what they take. Here line (n, t, h)
begins at ``n * steps[0] + t * steps[1] + h * steps[2]``, and the maps are C
``[N, T, H, W]``, T ``[N, H, W, C]``, H ``[N, T, W, C]`` and W ``[N, T, H, C]``.
"""

import numpy as np
from numba import prange

from .compiling import inline, kernel
from .rows import (
    ZERO,
    add_to_pool,
    divide,
    fill,
    pool_over_rows,
    pool_within_rows,
    start_pool,
    unsigned,
)

THIRD = np.float32(1 / 3)


@inline
def _line(steps, n, t, h):
    return n * np.uintp(steps[0]) + t * np.uintp(steps[1]) + h * np.uintp(steps[2])


@inline
def _at(begins, shape, n, t, h):
    """Where the maps of a line begin."""
    N, C, T, H, W = unsigned(shape)
    frame = n * T + t
    return (
        np.uintp(begins[0]) + (frame * H + h) * W,
        np.uintp(begins[1]) + (n * H + h) * W * C,
        np.uintp(begins[2]) + frame * W * C,
        np.uintp(begins[3]) + (frame * H + h) * C,
    )


@inline
def _gates(of_c, gate, at, W, C, out):
    """What a line is multiplied by: its C gate, or the mean of the others."""
    for w in range(W):
        k = w * C
        if of_c:
            g = gate[at[0] + w]
            for c in range(C):
                out[k + c] = g
        else:
            for c in range(C):
                g = gate[at[1] + k + c] + gate[at[2] + k + c] + gate[at[3] + c]
                out[k + c] = g * THIRD


@inline
def _through(of_c, largest, mean, argmax, at, shape, t, h, out):
    """What comes back to a line through a pool over C, or through the others."""
    N, C, T, H, W = unsigned(shape)
    if of_c:
        for w in range(W):
            v = mean[at[0] + w] * np.float32(1 / C)
            for c in range(C):
                out[w * C + c] = v
            out[w * C + np.uintp(argmax[at[0] + w])] += largest[at[0] + w]
        return
    of_t, of_h, of_w = np.float32(1 / T), np.float32(1 / H), np.float32(1 / W)
    for k in range(W * C):
        v = largest[at[1] + k]
        u = largest[at[2] + k]
        v = v if argmax[at[1] + k] == np.int16(t) else np.float32(0)
        u = u if argmax[at[2] + k] == np.int16(h) else np.float32(0)
        out[k] = mean[at[1] + k] * of_t + v + mean[at[2] + k] * of_h + u
    for w in range(W):
        for c in range(C):
            v = largest[at[3] + c]
            v = v if argmax[at[3] + c] == np.int16(w) else np.float32(0)
            out[w * C + c] += mean[at[3] + c] * of_w + v


@inline
def _multiply_by_c(x, line, gate, at, W, C, out):
    """A line times its C gate."""
    for w in range(W):
        g = gate[at + w]
        for c in range(C):
            out[w * C + c] = x[line + w * C + c] * g


@kernel
def pool_c(x, steps, shape, begins, nested, gate, largest, mean, argmax):
    """Pool ``x`` over C, or if ``nested`` ``x`` times the mean of its gates."""
    N, C, T, H, W = unsigned(shape)
    for i in prange(N * T * H):
        n, t, h = i // (T * H), i // H % T, i % H
        at, line = _at(begins, shape, n, t, h), _line(steps, n, t, h)
        if nested:
            z = np.empty(W * C, np.float32)
            _gates(False, gate, at, W, C, z)
            for k in range(W * C):
                z[k] *= x[line + k]
            pool_within_rows(z, ZERO, W, np.uintp(1), C, largest, mean, argmax, at[0])
        else:
            pool_within_rows(x, line, W, np.uintp(1), C, largest, mean, argmax, at[0])


@kernel
def pool_thw(x, steps, shape, begins, nested, gate, largest, mean, argmax):
    """Pool ``x`` over T, H and W, or if ``nested`` ``x`` times its C gate."""
    N, C, T, H, W = unsigned(shape)
    size = W * C
    for i in prange(N * H):
        n, h = i // H, i % H
        z = np.empty(size, np.float32)
        to = _at(begins, shape, n, ZERO, h)[1]
        start_pool(largest, mean, argmax, to, size)
        for t in range(T):
            at, line = _at(begins, shape, n, t, h), _line(steps, n, t, h)
            if nested:
                _multiply_by_c(x, line, gate, at[0], W, C, z)
            else:
                for k in range(size):
                    z[k] = x[line + k]
            add_to_pool(z, ZERO, np.int16(t), largest, mean, argmax, to, size)
            pool_over_rows(z, W, C, largest, mean, argmax, at[3])
        divide(mean, to, size, T)
    for i in prange(N * T):
        n, t = i // T, i % T
        z = np.empty(size, np.float32)
        to = _at(begins, shape, n, t, ZERO)[2]
        start_pool(largest, mean, argmax, to, size)
        for h in range(H):
            at, line = _at(begins, shape, n, t, h), _line(steps, n, t, h)
            if nested:
                _multiply_by_c(x, line, gate, at[0], W, C, z)
                add_to_pool(z, ZERO, np.int16(h), largest, mean, argmax, to, size)
            else:
                add_to_pool(x, line, np.int16(h), largest, mean, argmax, to, size)
        divide(mean, to, size, H)


@kernel
def weigh(x, steps, out, steps_out, shape, begins, of_c, gate, relu):
    """``x`` times its C gate, or the mean of the others; ``out`` may be ``x``."""
    N, C, T, H, W = unsigned(shape)
    for i in prange(N * T * H):
        n, t, h = i // (T * H), i // H % T, i % H
        line, to = _line(steps, n, t, h), _line(steps_out, n, t, h)
        z = np.empty(W * C, np.float32)
        _gates(of_c, gate, _at(begins, shape, n, t, h), W, C, z)
        for k in range(W * C):
            v = z[k] * x[line + k]
            z[k] = np.float32(0) if relu and v <= 0 else v
        for k in range(W * C):
            out[to + k] = z[k]


@kernel
def sum_c(
    x, steps, grad, steps_grad, shape, begins, nested, relu, largest, mean, argmax, sums
):
    """Sums over C of ``x * grad``, or if ``nested`` of ``x`` times what comes back
    through the pools over T, H and W.
    """
    N, C, T, H, W = unsigned(shape)
    for i in prange(N * T * H):
        n, t, h = i // (T * H), i // H % T, i % H
        at, line = _at(begins, shape, n, t, h), _line(steps, n, t, h)
        g = _line(steps_grad, n, t, h)
        z = np.empty(W * C, np.float32)
        if nested:
            _through(False, largest, mean, argmax, at, shape, t, h, z)
        else:
            for k in range(W * C):
                v = grad[g + k]
                z[k] = np.float32(0) if relu and x[line + k] <= 0 else v
        for w in range(W):
            total = np.float32(0)
            for c in range(C):
                total += x[line + w * C + c] * z[w * C + c]
            sums[at[0] + w] = total


@inline
def _products(
    x, line, grad, g, nested, relu, largest, mean, argmax, at, shape, t, h, z
):
    """A line of ``x`` times the gradient, or if ``nested`` times what comes back
    through the pool over C.
    """
    size = np.uintp(shape[4]) * np.uintp(shape[1])
    if nested:
        _through(True, largest, mean, argmax, at, shape, t, h, z)
        for k in range(size):
            z[k] *= x[line + k]
    else:
        for k in range(size):
            v = x[line + k] * grad[g + k]
            z[k] = np.float32(0) if relu and x[line + k] <= 0 else v


@kernel
def sum_thw(
    x, steps, grad, steps_grad, shape, begins, nested, relu, largest, mean, argmax, sums
):
    """Sums over T, H and W of ``x * grad``, or if ``nested`` of ``x`` times what
    comes back through the pool over C.
    """
    N, C, T, H, W = unsigned(shape)
    size = W * C
    for i in prange(N * H):
        n, h = i // H, i % H
        z = np.empty(size, np.float32)
        to = _at(begins, shape, n, ZERO, h)[1]
        fill(sums, to, size, np.float32(0))
        for t in range(T):
            at, line = _at(begins, shape, n, t, h), _line(steps, n, t, h)
            g = _line(steps_grad, n, t, h)
            pools = largest, mean, argmax
            _products(x, line, grad, g, nested, relu, *pools, at, shape, t, h, z)
            for k in range(size):
                sums[to + k] += z[k]
            fill(sums, at[3], C, np.float32(0))
            for w in range(W):
                for c in range(C):
                    sums[at[3] + c] += z[w * C + c]
    for i in prange(N * T):
        n, t = i // T, i % T
        z = np.empty(size, np.float32)
        to = _at(begins, shape, n, t, ZERO)[2]
        fill(sums, to, size, np.float32(0))
        for h in range(H):
            at, line = _at(begins, shape, n, t, h), _line(steps, n, t, h)
            g = _line(steps_grad, n, t, h)
            pools = largest, mean, argmax
            _products(x, line, grad, g, nested, relu, *pools, at, shape, t, h, z)
            for k in range(size):
                sums[to + k] += z[k]


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
    size = W * C
    for i in prange(N * T * H):
        n, t, h = i // (T * H), i // H % T, i % H
        at, line = _at(begins, shape, n, t, h), _line(steps, n, t, h)
        g, to = _line(steps_grad, n, t, h), _line(steps_out, n, t, h)
        z, y = np.empty(size, np.float32), np.empty(size, np.float32)
        _gates(of_c, gate, at, W, C, z)
        for k in range(size):
            v = z[k] * grad[g + k]
            z[k] = np.float32(0) if relu and x[line + k] <= 0 else v
        _through(of_c, largest, mean, argmax, at, shape, t, h, y)
        if nested:
            u = np.empty(size, np.float32)
            _gates(not of_c, gate, at, W, C, u)
            for k in range(size):
                z[k] += y[k] * u[k]
            _through(not of_c, largest, mean, argmax, at, shape, t, h, y)
        for k in range(size):
            out[to + k] = z[k] + y[k]
