"""Loops over rows, which are consecutive elements of flat arrays.

A row is given as an array and where it begins. Sizes and indices are unsigned, as
numba asks of signed ones whether they are negative, and no slices are taken, as
numba counts the references to each.
"""

import numpy as np

from .compiling import inline

NOTHING = np.float32(-np.inf)
ZERO, ONE = np.uintp(0), np.uintp(1)


@inline
def unsigned(shape):
    """Five sizes as unsigned integers."""
    return (
        np.uintp(shape[0]),
        np.uintp(shape[1]),
        np.uintp(shape[2]),
        np.uintp(shape[3]),
        np.uintp(shape[4]),
    )


@inline
def fill(out, k, size, value):
    """Set all elements."""
    for e in range(size):
        out[k + e] = value


@inline
def start_pool(largest, total, argmax, k, size):
    """Begin a pool of rows."""
    for e in range(size):
        largest[k + e] = NOTHING
        total[k + e] = 0
        if argmax.size:
            argmax[k + e] = 0


@inline
def add_to_pool(x, i, index, largest, total, argmax, k, size):
    """Add row number ``index`` to a pool.

    An ``argmax`` is filled unless it is empty.
    """
    for e in range(size):
        v = x[i + e]
        better = v > largest[k + e]
        total[k + e] += v
        largest[k + e] = v if better else largest[k + e]
        if argmax.size:
            argmax[k + e] = index if better else argmax[k + e]


@inline
def divide(out, k, size, count):
    """From sums to means."""
    factor = np.float32(1 / count)
    for e in range(size):
        out[k + e] *= factor


@inline
def pool_over_rows(x, count, size, largest, mean, argmax, k):
    """Pool ``x [count, size]`` to ``[size]``."""
    start_pool(largest, mean, argmax, k, size)
    for r in range(count):
        for e in range(size):
            v = x[r * size + e]
            better = v > largest[k + e]
            mean[k + e] += v
            largest[k + e] = v if better else largest[k + e]
            if argmax.size:
                argmax[k + e] = np.int16(r) if better else argmax[k + e]
    divide(mean, k, size, count)


@inline
def _ordered(bits):
    """From the bits of a float to an integer of the same order, and back."""
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(2**31 - 1)))


@inline
def pool_within_rows(x, i, outer, inner, size, largest, mean, argmax, k):
    """Pool ``x [outer, inner, size]`` to ``[inner, outer]``.

    The largest is found among integers, because compilers make no vectors of the
    maximum of floats, among which NaN might be. The first that equals it is
    sought afterwards for the same reason.
    """
    last = np.int32(size - ONE)
    for a in range(outer):
        for b in range(inner):
            begin, to = i + (a * inner + b) * size, k + b * outer + a
            best, total = np.int32(-(2**31)), np.float32(0)
            for e in range(size):
                v = x[begin + e]
                total += v
                best = max(best, _ordered(np.float32(v).view(np.int32)))
            found = np.int32(_ordered(best)).view(np.float32)
            largest[to] = found
            mean[to] = total / size
            if argmax.size:
                index = last
                for e in range(size):
                    equal = x[begin + e] == found
                    index = min(index, np.int32(e) if equal else last)
                argmax[to] = index
