"""Triton kernels of the attention; :mod:`.attention` launches them.

Names in all of them:

- ``x`` is ``[N, C, T, H, W]`` with any strides. A program works on a *tile* of
  it, ``[BC, BH, BW]`` of one frame, or ``[BC, BP]`` where all that matters is
  the pixel ``p = h * W + w``. ``X*`` are strides of ``x``; ``Y*`` are those of
  the output and of the gradients, which are all alike. ``XP`` and ``YP`` are
  strides of the pixel, None where it has none. ``INT`` is the integer type
  that can address all of it.
- A *map* is ``x`` without one axis, float32: C ``[N, T, H, W]``, T ``[N, C, H,
  W]``, H ``[N, T, C, W]`` and W ``[N, T, C, H]``. The T, H and W maps lie one
  behind the other in one buffer, T at 0, H at ``base_h`` and W at ``base_w``,
  so that one launch takes care of all three gates.
- A *pooled* buffer has two planes of such maps, the maxima and the **sums**,
  ``length`` apart; so has the buffer of their gradients. The mean is only ever
  taken by the weights that meet the sums (:func:`_taps`).

Everything is computed in float32, and in an order that does not depend on the
timing of the device, so results are the same every time.
"""

import triton
import triton.language as tl

# Elements of a gate that a program convolves at a time: one per thread, with a
# neighbour per register.
BLOCK = tl.constexpr(128)


# ---------------------------------------------------------------------------
# Where things are
# ---------------------------------------------------------------------------
@triton.jit
def _at_c(n, t, p, T, H, W):
    return (n * T + t) * (H * W) + p


@triton.jit
def _at_t(n, c, p, C, H, W):
    return (n * C + c) * (H * W) + p


@triton.jit
def _at_h(n, t, c, w, C, T, W):
    return ((n * T + t) * C + c) * W + w


@triton.jit
def _at_w(n, t, c, h, C, T, H):
    return ((n * T + t) * C + c) * H + h


@triton.jit
def _tile(
    C, H, W, BC: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr, INT: tl.constexpr
):
    """This program's sample, block of H, block of W, and tile
    (``[BC, 1, 1]``, ``[1, BH, 1]``, ``[1, 1, BW]``).
    """
    program = tl.program_id(0).to(INT)
    w_block = program % tl.cdiv(W, BW)
    program = program // tl.cdiv(W, BW)
    h_block = program % tl.cdiv(H, BH)
    program = program // tl.cdiv(H, BH)
    c_block = program % tl.cdiv(C, BC)
    n = program // tl.cdiv(C, BC)
    c = (c_block * BC + tl.arange(0, BC))[:, None, None]
    h = (h_block * BH + tl.arange(0, BH))[None, :, None]
    w = (w_block * BW + tl.arange(0, BW))[None, None, :]
    return n, h_block, w_block, c, h, w


@triton.jit
def _pixels(p, h, w, P: tl.constexpr, H: tl.constexpr, W: tl.constexpr):
    """Offsets of pixels: dense ones are consecutive, for wide loads."""
    if P is None:
        return h * H + w * W
    else:
        return p * P


# ---------------------------------------------------------------------------
# What a tile is multiplied by
# ---------------------------------------------------------------------------
@triton.jit
def _gate_c(gates, n, t, p, mask, T, H, W):
    return tl.load(gates + _at_c(n, t, p, T, H, W), mask=mask, other=0.0)


@triton.jit
def _gate_t(gates, n, c, p, mask, C, H, W):
    return tl.load(gates + _at_t(n, c, p, C, H, W), mask=mask, other=0.0)


@triton.jit
def _gates_hw(gates, base_h, base_w, n, t, c, h, w, mc, mh, mw, C, T, H, W):
    """Sum of the H and the W gate."""
    at_h = base_h + _at_h(n, t, c, w, C, T, W)
    at_w = base_w + _at_w(n, t, c, h, C, T, H)
    return tl.load(gates + at_h, mask=mc & mw, other=0.0) + tl.load(
        gates + at_w, mask=mc & mh, other=0.0
    )


@triton.jit
def _relu(v):
    # Not the maximum of v and 0, which NaN is not always.
    return tl.where(v <= 0, 0.0, v)


@triton.jit
def _load_pools(grads, argmax, length, at, mask):
    """Gradients of maximum and sum, and the argmax."""
    return (
        tl.load(grads + at, mask=mask, other=0.0),
        tl.load(grads + length + at, mask=mask, other=0.0),
        tl.load(argmax + at, mask=mask, other=-1),
    )


@triton.jit
def _unpool(grads, argmax, length, at, mask, coordinate):
    """Gradient of a tile through the pools of one axis."""
    maximum, total, of_max = _load_pools(grads, argmax, length, at, mask)
    return total + tl.where(of_max == coordinate, maximum, 0.0)


@triton.jit
def _unpool_hw(
    grads, argmax, length, base_h, base_w, n, t, c, h, w, mc, mh, mw, C, T, H, W
):
    at_h = base_h + _at_h(n, t, c, w, C, T, W)
    at_w = base_w + _at_w(n, t, c, h, C, T, H)
    return _unpool(grads, argmax, length, at_h, mc & mw, h) + _unpool(
        grads, argmax, length, at_w, mc & mh, w
    )


# ---------------------------------------------------------------------------
# Passes over x that reduce it to maps
# ---------------------------------------------------------------------------
@triton.jit
def reduce_c_kernel(
    x,
    grad,
    gates,
    grads,
    argmax,
    out,
    out_argmax,
    C,
    T,
    XN,
    XT,
    YN,
    YT,
    base_h,
    base_w,
    grads_length,
    length,
    H: tl.constexpr,
    W: tl.constexpr,
    XC: tl.constexpr,
    XH: tl.constexpr,
    XW: tl.constexpr,
    XP: tl.constexpr,
    YC: tl.constexpr,
    YH: tl.constexpr,
    YW: tl.constexpr,
    YP: tl.constexpr,
    UNPOOL: tl.constexpr,
    RELU: tl.constexpr,
    BC: tl.constexpr,
    BP: tl.constexpr,
    INT: tl.constexpr,
):
    """Reduce ``x`` over C, a program per frame and ``BP`` pixels.

    Without ``UNPOOL``: the planes of ``out [planes, length]`` become maximum
    and sum of ``z``, ``x`` times the mean of the T, H and W ``gates`` if there
    are any; ``out_argmax``, if given, becomes where the maximum is; with
    ``grad`` a third plane becomes the sum of ``grad * x``, for ``RELU`` of the
    positive ``x`` alone.

    With ``UNPOOL``: ``out`` becomes the sum of ``grad_z * x``, where
    ``grad_z`` comes through the pools over T, H and W, whose gradients and
    argmax are ``grads`` and ``argmax``.
    """
    blocks = tl.cdiv(H * W, BP)
    program = tl.program_id(0).to(INT)
    n = program // blocks // T
    t = program // blocks % T
    p = ((program % blocks) * BP + tl.arange(0, BP))[None, :]
    h = p // W
    w = p % W
    mp = p < H * W
    x += n * XN + t * XT + _pixels(p, h, w, XP, XH, XW)
    if grad is not None:
        grad += n * YN + t * YT + _pixels(p, h, w, YP, YH, YW)

    # Elementwise over the blocks of C, which keeps the loads independent.
    total = tl.zeros([BC, BP], tl.float32)
    if not UNPOOL:
        maximum = tl.full([BC, BP], float('-inf'), tl.float32)
        if out_argmax is not None:
            at_max = tl.zeros([BC, BP], tl.int32)
        if grad is not None:
            product = tl.zeros([BC, BP], tl.float32)
    for start in range(0, C, BC):
        c = (start + tl.arange(0, BC)).to(INT)[:, None]
        mc = c < C
        mask = mc & mp
        v = tl.load(x + c * XC, mask=mask, other=0.0).to(tl.float32)
        if UNPOOL:
            at_t = _at_t(n, c, p, C, H, W)
            total += v * (
                _unpool(grads, argmax, grads_length, at_t, mask, t)
                + _unpool_hw(
                    grads,
                    argmax,
                    grads_length,
                    base_h,
                    base_w,
                    n,
                    t,
                    c,
                    h,
                    w,
                    mc,
                    mp,
                    mp,
                    C,
                    T,
                    H,
                    W,
                )
            )
        else:
            if grad is not None:
                g = tl.load(grad + c * YC, mask=mask, other=0.0)
                product += g.to(tl.float32) * (_relu(v) if RELU else v)
            if gates is not None:
                v *= (
                    _gate_t(gates, n, c, p, mask, C, H, W)
                    + _gates_hw(
                        gates, base_h, base_w, n, t, c, h, w, mc, mp, mp, C, T, H, W
                    )
                ) * (1 / 3)
            total += v
            # NaN is no maximum; it reaches the gate through the mean.
            better = mask & (v > maximum)
            maximum = tl.where(better, v, maximum)
            if out_argmax is not None:
                at_max = tl.where(better, c.to(tl.int32), at_max)

    out += _at_c(n, t, p, T, H, W)
    if UNPOOL:
        tl.store(out, tl.sum(total, 0, keep_dims=True), mask=mp)
    else:
        top = tl.max(maximum, 0, keep_dims=True)
        tl.store(out, top, mask=mp)
        tl.store(out + length, tl.sum(total, 0, keep_dims=True), mask=mp)
        if out_argmax is not None:
            # Of equal maxima the first one, of each row and of all rows
            at_max = tl.where(maximum == top, at_max, 2147483647)
            tl.store(
                out_argmax + _at_c(n, t, p, T, H, W),
                tl.min(at_max, 0, keep_dims=True),
                mask=mp,
            )
        if grad is not None:
            tl.store(out + 2 * length, tl.sum(product, 0, keep_dims=True), mask=mp)


@triton.jit
def reduce_thw_kernel(
    x,
    grad,
    gates,
    grads,
    argmax,
    out,
    out_argmax,
    C,
    T,
    XN,
    XT,
    YN,
    YT,
    dest_h,
    dest_w,
    size_h,
    size_w,
    grads_length,
    length,
    H: tl.constexpr,
    W: tl.constexpr,
    XC: tl.constexpr,
    XH: tl.constexpr,
    XW: tl.constexpr,
    YC: tl.constexpr,
    YH: tl.constexpr,
    YW: tl.constexpr,
    UNPOOL: tl.constexpr,
    RELU: tl.constexpr,
    BC: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    INT: tl.constexpr,
):
    """Reduce ``x`` over T, over H and over W, in one pass.

    A program has a tile of pixels and goes through T. The planes of ``out``
    are those of :func:`reduce_c_kernel`, with ``z = x * gate C`` and
    ``grad_z`` through the pool over C; each has the T map at 0, and at
    ``dest_h`` and ``dest_w`` the H and W maps, ``size_h`` and ``size_w`` long,
    once for each tile that H and W are cut into (:func:`merge_kernel`).
    """
    n, h_block, w_block, c, h, w = _tile(C, H, W, BC, BH, BW, INT)
    p = h * W + w
    mc = c < C
    mh = h < H
    mw = w < W
    mask = mc & mh & mw
    # One pointer that moves, and offsets, take fewer registers than pointers.
    x += n * XN
    x_at = c * XC + h * XH + w * XW
    if grad is not None:
        grad += n * YN
        grad_at = c * YC + h * YH + w * YW
    dest_h += h_block * size_h
    dest_w += w_block * size_w

    total = tl.zeros([BC, BH, BW], tl.float32)
    if not UNPOOL:
        maximum = tl.full([BC, BH, BW], float('-inf'), tl.float32)
        if out_argmax is not None:
            at_max = tl.zeros([BC, BH, BW], tl.int32)
        if grad is not None:
            product = tl.zeros([BC, BH, BW], tl.float32)
    for t in range(0, T):
        v = tl.load(x + x_at, mask=mask, other=0.0).to(tl.float32)
        x += XT
        at_h = dest_h + _at_h(n, t, c, w, C, T, W)
        at_w = dest_w + _at_w(n, t, c, h, C, T, H)
        if UNPOOL:
            at_c = _at_c(n, t, p, T, H, W)
            v *= _unpool(grads, argmax, grads_length, at_c, mh & mw, c)
            total += v
            tl.store(out + at_h, tl.sum(v, 1, keep_dims=True), mask=mc & mw)
            tl.store(out + at_w, tl.sum(v, 2, keep_dims=True), mask=mc & mh)
        else:
            if grad is not None:
                g = tl.load(grad + grad_at, mask=mask, other=0.0)
                grad += YT
                g = g.to(tl.float32) * (_relu(v) if RELU else v)
                product += g
                tl.store(
                    out + 2 * length + at_h, tl.sum(g, 1, keep_dims=True), mask=mc & mw
                )
                tl.store(
                    out + 2 * length + at_w, tl.sum(g, 2, keep_dims=True), mask=mc & mh
                )
            if gates is not None:
                v *= _gate_c(gates, n, t, p, mh & mw, T, H, W)
            total += v
            tl.store(out + length + at_h, tl.sum(v, 1, keep_dims=True), mask=mc & mw)
            tl.store(out + length + at_w, tl.sum(v, 2, keep_dims=True), mask=mc & mh)
            # NaN is no maximum; it reaches the gate through the mean.
            v = tl.where(mask & (v == v), v, float('-inf'))
            better = v > maximum
            maximum = tl.where(better, v, maximum)
            if out_argmax is not None:
                at_max = tl.where(better, t, at_max)
                top, row = tl.max(v, 1, return_indices=True, keep_dims=True)
                tl.store(out + at_h, top, mask=mc & mw)
                tl.store(out_argmax + at_h, row + h_block * BH, mask=mc & mw)
                top, row = tl.max(v, 2, return_indices=True, keep_dims=True)
                tl.store(out + at_w, top, mask=mc & mh)
                tl.store(out_argmax + at_w, row + w_block * BW, mask=mc & mh)
            else:
                tl.store(out + at_h, tl.max(v, 1, keep_dims=True), mask=mc & mw)
                tl.store(out + at_w, tl.max(v, 2, keep_dims=True), mask=mc & mh)

    at_t = _at_t(n, c, p, C, H, W)
    if UNPOOL:
        tl.store(out + at_t, total, mask=mask)
    else:
        tl.store(out + at_t, maximum, mask=mask)
        tl.store(out + length + at_t, total, mask=mask)
        if out_argmax is not None:
            tl.store(out_argmax + at_t, at_max, mask=mask)
        if grad is not None:
            tl.store(out + 2 * length + at_t, product, mask=mask)


@triton.jit
def merge_kernel(
    out,
    argmax,
    base,
    dest,
    size,
    blocks,
    length,
    PLANES: tl.constexpr,
    MERGED: tl.constexpr,
    INT: tl.constexpr,
):
    """Put the H or the W map together where several tiles made it.

    From ``blocks`` maps of ``size`` elements at ``dest`` to one at ``base``,
    for each of the ``PLANES``; the first is of maxima unless it is the only
    one.
    """
    i = tl.program_id(0).to(INT) * MERGED + tl.arange(0, MERGED)
    mask = i < size
    for plane in tl.static_range(PLANES):
        source = out + plane * length + dest + i
        if PLANES > 1 and plane == 0:
            value = tl.full([MERGED], float('-inf'), tl.float32)
            at_max = tl.zeros([MERGED], tl.int32)
            source_argmax = dest + i
            for _ in range(blocks):
                v = tl.load(source, mask=mask, other=0.0)
                better = v > value
                value = tl.where(better, v, value)
                if argmax is not None:
                    v = tl.load(argmax + source_argmax, mask=mask, other=0)
                    # Without a maximum, as of NaN, any will do.
                    at_max = tl.where(better, v, at_max)
                source += size
                source_argmax += size
            if argmax is not None:
                tl.store(argmax + base + i, at_max, mask=mask)
        else:
            value = tl.zeros([MERGED], tl.float32)
            for _ in range(blocks):
                value += tl.load(source, mask=mask, other=0.0)
                source += size
        tl.store(out + plane * length + base + i, value, mask=mask)


# ---------------------------------------------------------------------------
# Passes that write something as large as x
# ---------------------------------------------------------------------------
@triton.jit
def weigh_kernel(
    x,
    gates,
    out,
    C,
    T,
    XN,
    XT,
    YN,
    YT,
    base_h,
    base_w,
    H: tl.constexpr,
    W: tl.constexpr,
    XC: tl.constexpr,
    XH: tl.constexpr,
    XW: tl.constexpr,
    YC: tl.constexpr,
    YH: tl.constexpr,
    YW: tl.constexpr,
    OUTER_C: tl.constexpr,
    RELU: tl.constexpr,
    BC: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    INT: tl.constexpr,
):
    """``x`` times the C gate, or times the mean of the T, H and W gates."""
    n, _, _, c, h, w = _tile(C, H, W, BC, BH, BW, INT)
    p = h * W + w
    mc = c < C
    mh = h < H
    mw = w < W
    mask = mc & mh & mw
    x += n * XN
    x_at = c * XC + h * XH + w * XW
    out += n * YN
    out_at = c * YC + h * YH + w * YW
    if not OUTER_C:
        gate_t = _gate_t(gates, n, c, p, mask, C, H, W)
    for t in range(0, T):
        if OUTER_C:
            gate = _gate_c(gates, n, t, p, mh & mw, T, H, W)
        else:
            gate = (
                gate_t
                + _gates_hw(
                    gates, base_h, base_w, n, t, c, h, w, mc, mh, mw, C, T, H, W
                )
            ) * (1 / 3)
        v = tl.load(x + x_at, mask=mask, other=0.0).to(tl.float32) * gate
        if RELU:
            v = _relu(v)
        tl.store(out + out_at, v.to(out.dtype.element_ty), mask=mask)
        x += XT
        out += YT


@triton.jit
def grad_x_kernel(
    grad,
    x,
    gates_c,
    grads_c,
    argmax_c,
    gates_thw,
    grads_thw,
    argmax_thw,
    out,
    C,
    T,
    XN,
    XT,
    YN,
    YT,
    base_h,
    base_w,
    length_c,
    length_thw,
    H: tl.constexpr,
    W: tl.constexpr,
    XC: tl.constexpr,
    XH: tl.constexpr,
    XW: tl.constexpr,
    YC: tl.constexpr,
    YH: tl.constexpr,
    YW: tl.constexpr,
    OUTER_C: tl.constexpr,
    NESTED: tl.constexpr,
    RELU: tl.constexpr,
    BC: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    INT: tl.constexpr,
):
    """Gradient of ``x``: ``grad * outer gates + grad_z * inner gates + what
    comes through the inner pools``.

    ``grad_z`` is what comes through the outer pools; without inner gates (not
    ``NESTED``) ``z`` is ``x``. ``gates``, ``grads`` and ``argmax`` are gates,
    gradients of the pools and argmax, of the C gate and of the
    T, H and W gates. ``x`` is read for ``RELU`` alone.
    """
    n, _, _, c, h, w = _tile(C, H, W, BC, BH, BW, INT)
    p = h * W + w
    mc = c < C
    mh = h < H
    mw = w < W
    mask = mc & mh & mw
    x += n * XN
    x_at = c * XC + h * XH + w * XW
    at = c * YC + h * YH + w * YW
    grad += n * YN
    out += n * YN
    if NESTED or not OUTER_C:
        gate_t = _gate_t(gates_thw, n, c, p, mask, C, H, W)
        max_t, sum_t, argmax_t = _load_pools(
            grads_thw, argmax_thw, length_thw, _at_t(n, c, p, C, H, W), mask
        )
    for t in range(0, T):
        if NESTED or OUTER_C:
            gate_c = _gate_c(gates_c, n, t, p, mh & mw, T, H, W)
            pool_c = _unpool(
                grads_c, argmax_c, length_c, _at_c(n, t, p, T, H, W), mh & mw, c
            )
        if NESTED or not OUTER_C:
            gate_thw = (
                gate_t
                + _gates_hw(
                    gates_thw, base_h, base_w, n, t, c, h, w, mc, mh, mw, C, T, H, W
                )
            ) * (1 / 3)
            pool_thw = (
                sum_t
                + tl.where(argmax_t == t, max_t, 0.0)
                + _unpool_hw(
                    grads_thw,
                    argmax_thw,
                    length_thw,
                    base_h,
                    base_w,
                    n,
                    t,
                    c,
                    h,
                    w,
                    mc,
                    mh,
                    mw,
                    C,
                    T,
                    H,
                    W,
                )
            )
        v = tl.load(grad + at, mask=mask, other=0.0).to(tl.float32)
        if RELU:
            of_x = tl.load(x + x_at, mask=mask, other=0.0).to(tl.float32)
            v = tl.where(of_x <= 0, 0.0, v)
        if not NESTED:
            if OUTER_C:
                v = v * gate_c + pool_c
            else:
                v = v * gate_thw + pool_thw
        elif OUTER_C:
            v = v * gate_c + pool_c * gate_thw + pool_thw
        else:
            v = v * gate_thw + pool_thw * gate_c + pool_c
        tl.store(out + at, v.to(out.dtype.element_ty), mask=mask)
        x += XT
        grad += YT
        out += YT


# ---------------------------------------------------------------------------
# The small part: from pooled maps to gates, and back
#
# Each gate has its own programs, those of gate 1 and 2 beginning at `first`
# and `second`, and each program has `steps` items, BLOCK elements of one
# sample. A program's sums go to row `gate * rows + its number in the gate`.
# ---------------------------------------------------------------------------
@triton.jit
def _gate_of_program(
    first, second, base_h, base_w, GATES: tl.constexpr, INT: tl.constexpr
):
    """Gate of this program, its number in that gate, how many programs the
    gate has, and where its maps begin.
    """
    program = tl.program_id(0)
    if GATES == 1:
        return 0, program, tl.num_programs(0), tl.cast(0, INT)
    else:
        g = (program >= first).to(tl.int32) + (program >= second).to(tl.int32)
        begin = tl.where(g == 0, 0, tl.where(g == 1, first, second))
        end = tl.where(g == 0, first, tl.where(g == 1, second, tl.num_programs(0)))
        base = tl.where(g == 0, 0, tl.where(g == 1, base_h, base_w))
        return g, program - begin, end - begin, base.to(INT)


@triton.jit
def _sizes(g, C, T, H, W, GATES: tl.constexpr):
    """The three axes of a map, and the one that is pooled away."""
    if GATES == 1:
        return T, H, W, C
    else:
        return (
            tl.where(g == 0, C, T),
            tl.where(g == 0, H, C),
            tl.where(g == 2, H, W),
            tl.where(g == 0, T, tl.where(g == 1, H, W)),
        )


@triton.jit
def _item(item, N, e1, e2, e3, base):
    """An item's elements, as offsets in their sample ``[BLOCK]``, where the
    sample begins, and which elements there are ``[BLOCK]``.
    """
    size = e1 * e2 * e3
    blocks = tl.cdiv(size, BLOCK)
    n = item // blocks
    i = (item % blocks).to(tl.int32) * BLOCK + tl.arange(0, BLOCK)
    # The last program may have items left when there are no more samples.
    inside = i < tl.where(n < N, size, 0)
    return i, base + n * size, inside


@triton.jit
def _taps(weight, g, pooled_size, GATES: tl.constexpr):
    """The 27 taps of a gate's kernel, in the order of the axes of its map.

    Returns their three coordinates, their offsets in the kernel and the
    weights of the maxima and of the sums, all ``[32, 1]``.
    """
    tap = tl.arange(0, 32)[:, None]
    k1 = tap // 9
    k2 = tap // 3 % 3
    k3 = tap % 3
    at = tap
    if GATES > 1:
        # The kernel of the W gate has the axes (T, H, C), its map (T, C, H).
        at = tl.where(g == 2, k1 * 9 + k3 * 3 + k2, tap)
    weight += g * 54 + at
    maximum = tl.load(weight, mask=tap < 27, other=0.0)
    total = tl.load(weight + 27, mask=tap < 27, other=0.0) / pooled_size
    return k1, k2, k3, at, maximum, total


@triton.jit
def _neighbours(i, e1, e2, e3, begin, inside, k1, k2, k3):
    """Offsets of the neighbours ``i + k - 1``, and which there are:
    ``[32, BLOCK]``.
    """
    i1 = (i // (e2 * e3))[None, :] + k1 - 1
    i2 = (i // e3 % e2)[None, :] + k2 - 1
    i3 = (i % e3)[None, :] + k3 - 1
    # The last five of the 32 have k1 = 3.
    mask = (
        inside[None, :]
        & (k1 < 3)
        & (i1 >= 0)
        & (i1 < e1)
        & (i2 >= 0)
        & (i2 < e2)
        & (i3 >= 0)
        & (i3 < e3)
    )
    return begin + (i1 * e2 + i2) * e3 + i3, mask


@triton.jit
def _norm(response, stats, g, eps):
    """Normalised responses, and what they were multiplied by."""
    deviation = tl.rsqrt(tl.load(stats + g * 2 + 1) + eps)
    return (response - tl.load(stats + g * 2)) * deviation, deviation


@triton.jit
def _sigmoid(normed, scale, shift, g):
    return tl.sigmoid(normed * tl.load(scale + g) + tl.load(shift + g))


@triton.jit
def conv_kernel(
    pooled,
    weight,
    scale,
    shift,
    stats,
    moments,
    response,
    gates,
    N,
    C,
    T,
    length,
    base_h,
    base_w,
    first,
    second,
    steps,
    rows,
    eps,
    H: tl.constexpr,
    W: tl.constexpr,
    GATES: tl.constexpr,
    INT: tl.constexpr,
):
    """Convolve the pooled maps; with ``stats``, norm and sigmoid as well.

    Without them, ``moments`` gets the count, mean and sum of squared
    deviations of each program's responses, for :func:`norm_kernel`.
    """
    g, program, programs, base = _gate_of_program(
        first, second, base_h, base_w, GATES, INT
    )
    e1, e2, e3, pooled_size = _sizes(g, C, T, H, W, GATES)
    k1, k2, k3, tap, w_max, w_sum = _taps(weight, g, pooled_size, GATES)
    count = tl.cast(0.0, tl.float32)
    mean = tl.cast(0.0, tl.float32)
    squares = tl.cast(0.0, tl.float32)
    for step in range(steps):
        item = program.to(INT) * steps + step
        i, begin, inside = _item(item, N, e1, e2, e3, base)
        at = begin + i
        near, mask = _neighbours(i, e1, e2, e3, begin, inside, k1, k2, k3)
        v = tl.load(pooled + near, mask=mask, other=0.0) * w_max
        v += tl.load(pooled + length + near, mask=mask, other=0.0) * w_sum
        v = tl.sum(v, 0)
        if response is not None:
            tl.store(response + at, v, mask=inside)
        if moments is None:
            normed, deviation = _norm(v, stats, g, eps)
            tl.store(gates + at, _sigmoid(normed, scale, shift, g), mask=inside)
        else:
            # Chan's update, as E[v^2] - E[v]^2 would cancel. Masked elements
            # are zero.
            number = tl.sum(inside.to(tl.float32), 0)
            centre = tl.sum(v, 0) / tl.maximum(number, 1.0)
            spread = tl.where(inside, v - centre, 0.0)
            together = tl.maximum(count + number, 1.0)
            delta = centre - mean
            squares += tl.sum(spread * spread, 0) + delta * delta * (
                count * number / together
            )
            mean += delta * (number / together)
            count += number
    if moments is not None:
        moments += (g * rows + program) * 3
        tl.store(moments, count)
        tl.store(moments + 1, mean)
        tl.store(moments + 2, squares)


@triton.jit
def norm_kernel(
    response,
    moments,
    scale,
    shift,
    stats,
    gates,
    N,
    C,
    T,
    base_h,
    base_w,
    first,
    second,
    steps,
    rows,
    eps,
    H: tl.constexpr,
    W: tl.constexpr,
    GATES: tl.constexpr,
    ROWS: tl.constexpr,
    INT: tl.constexpr,
):
    """Norm by the statistics of the batch, written to ``stats [G, 2]``, and
    sigmoid.
    """
    g, program, programs, base = _gate_of_program(
        first, second, base_h, base_w, GATES, INT
    )
    e1, e2, e3, _ = _sizes(g, C, T, H, W, GATES)
    row = tl.arange(0, ROWS)
    moments += (g * rows + row) * 3
    count = tl.load(moments, mask=row < programs, other=0.0)
    means = tl.load(moments + 1, mask=row < programs, other=0.0)
    squares = tl.load(moments + 2, mask=row < programs, other=0.0)
    total = tl.sum(count, 0)
    mean = tl.sum(count * means, 0) / total
    means -= mean
    variance = tl.sum(squares + count * means * means, 0) / total
    if program == 0:
        tl.store(stats + g * 2, mean)
        tl.store(stats + g * 2 + 1, variance)
    deviation = tl.rsqrt(variance + eps)
    for step in range(steps):
        item = program.to(INT) * steps + step
        i, begin, inside = _item(item, N, e1, e2, e3, base)
        at = begin + i
        v = tl.load(response + at, mask=inside, other=0.0)
        tl.store(
            gates + at, _sigmoid((v - mean) * deviation, scale, shift, g), mask=inside
        )


@triton.jit
def grad_gate_kernel(
    products,
    response,
    scale,
    shift,
    stats,
    grad_norm,
    sums,
    N,
    C,
    T,
    base_h,
    base_w,
    first,
    second,
    steps,
    rows,
    eps,
    H: tl.constexpr,
    W: tl.constexpr,
    GATES: tl.constexpr,
    INT: tl.constexpr,
):
    """From the sums of ``gradient * x`` along a gate's axis to the gradient of
    its norm's output, and each program's two ``sums`` of it: alone, and times
    the normed response.
    """
    g, program, _, base = _gate_of_program(first, second, base_h, base_w, GATES, INT)
    e1, e2, e3, _ = _sizes(g, C, T, H, W, GATES)
    alone = tl.zeros([BLOCK], tl.float32)
    times = tl.zeros([BLOCK], tl.float32)
    for step in range(steps):
        item = program.to(INT) * steps + step
        i, begin, inside = _item(item, N, e1, e2, e3, base)
        at = begin + i
        v = tl.load(response + at, mask=inside, other=0.0)
        normed, deviation = _norm(v, stats, g, eps)
        gate = _sigmoid(normed, scale, shift, g)
        # Zero where nothing is inside
        v = tl.load(products + at, mask=inside, other=0.0) / GATES
        v *= gate * (1 - gate)
        tl.store(grad_norm + at, v, mask=inside)
        alone += v
        times += v * normed
    sums += (g * rows + program) * 2
    tl.store(sums, tl.sum(alone, 0))
    tl.store(sums + 1, tl.sum(times, 0))


@triton.jit
def grad_conv_kernel(
    grad_norm,
    sums,
    response,
    pooled,
    weight,
    scale,
    stats,
    grads,
    grad_weight,
    grad_scale,
    grad_shift,
    N,
    C,
    T,
    pooled_length,
    length,
    base_h,
    base_w,
    first,
    second,
    steps,
    rows,
    eps,
    H: tl.constexpr,
    W: tl.constexpr,
    GATES: tl.constexpr,
    BATCH_STATS: tl.constexpr,
    ROWS: tl.constexpr,
    INT: tl.constexpr,
):
    """Through norm and convolution.

    ``grads [2, length]`` become the gradients of the maxima and the sums,
    ``grad_weight [G, rows, 2, 27]`` each program's part of the gradient of the
    kernel, ``grad_scale`` and ``grad_shift [G]`` those of scale and shift.
    """
    g, program, programs, base = _gate_of_program(
        first, second, base_h, base_w, GATES, INT
    )
    e1, e2, e3, pooled_size = _sizes(g, C, T, H, W, GATES)
    k1, k2, k3, tap, w_max, w_sum = _taps(weight, g, pooled_size, GATES)
    row = tl.arange(0, ROWS)
    sums += (g * rows + row) * 2
    alone = tl.sum(tl.load(sums, mask=row < programs, other=0.0), 0)
    times = tl.sum(tl.load(sums + 1, mask=row < programs, other=0.0), 0)
    if program == 0:
        tl.store(grad_scale + g, times)
        tl.store(grad_shift + g, alone)
    if BATCH_STATS:
        count = tl.cast(e1 * e2 * e3, tl.float32) * N
        alone = alone / count
        times = times / count

    part_max = tl.zeros([32, BLOCK], tl.float32)
    part_sum = tl.zeros([32, BLOCK], tl.float32)
    for step in range(steps):
        item = program.to(INT) * steps + step
        i, begin, inside = _item(item, N, e1, e2, e3, base)
        at = begin + i
        # The outputs that an input reaches lie opposite to its taps.
        near, mask = _neighbours(i, e1, e2, e3, begin, inside, 2 - k1, 2 - k2, 2 - k3)
        mask &= k1 < 3
        v = tl.load(grad_norm + near, mask=mask, other=0.0)
        if BATCH_STATS:
            normed, deviation = _norm(
                tl.load(response + near, mask=mask, other=0.0), stats, g, eps
            )
            v = tl.where(mask, v - alone - normed * times, 0.0)
        else:
            deviation = tl.rsqrt(tl.load(stats + g * 2 + 1) + eps)
        v *= deviation * tl.load(scale + g)
        tl.store(grads + at, tl.sum(v * w_max, 0), mask=inside)
        tl.store(grads + length + at, tl.sum(v * w_sum, 0), mask=inside)
        maximum = tl.load(pooled + at, mask=inside, other=0.0)
        total = tl.load(pooled + pooled_length + at, mask=inside, other=0.0)
        part_max += v * maximum[None, :]
        part_sum += v * total[None, :]
    grad_weight += (g * rows + program) * 54 + tap
    tl.store(grad_weight, tl.sum(part_max, 1, keep_dims=True), mask=k1 < 3)
    tl.store(
        grad_weight + 27, tl.sum(part_sum, 1, keep_dims=True) / pooled_size, mask=k1 < 3
    )
