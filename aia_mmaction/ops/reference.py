"""The equations of Attention in Attention, written to be read.

Source: Hao et al., *Attention in Attention: Modeling Context Correlation for
Efficient Video Classification*, arXiv 2204.09303, section III. This file is
the ground truth that every faster implementation is tested against.

A video feature map ``x`` is ``[N, C, T, H, W]``. The gate of an axis looks at
the map with that axis pooled away: a two-channel volume over the other three
axes, convolved down to one channel. The order of those three axes decides
which weight of the 3x3x3 kernel meets which neighbour, so it is part of the
definition (:data:`AXES`).
"""

from typing import Callable, Dict, Tuple

import torch
from torch import Tensor

# A gate maps [N, C, T, H, W] to the same shape with size 1 at its own axis.
Gate = Callable[[Tensor], Tensor]

# axis: (its dimension in NCTHW, the dimensions its convolution runs over).
AXES: Dict[str, Tuple[int, Tuple[int, int, int]]] = {
    'C': (1, (2, 3, 4)),  # (T, H, W)
    'T': (2, (1, 3, 4)),  # (C, H, W)
    'H': (3, (2, 1, 4)),  # (T, C, W)
    'W': (4, (2, 3, 1)),  # (T, H, C)
}


def context_pool(x: Tensor, axis: str) -> Tensor:
    """Pool one axis away: its maximum first, then its mean.

    Args:
        x (Tensor): Feature map ``[N, C, T, H, W]``.
        axis (str): ``'C'``, ``'T'``, ``'H'`` or ``'W'``.

    Returns:
        Tensor: ``[N, 2, D1, D2, D3]``, the three remaining axes in the order
        of :data:`AXES`.
    """
    dim, rest = AXES[axis]
    # `max` and not `amax`: of equal maxima only one receives the gradient.
    pooled = (x.max(dim, keepdim=True).values, x.mean(dim, keepdim=True))
    # 2 x [N, C, T, H, W] with size 1 at dim -> 2 x [N, 1, D1, D2, D3]
    return torch.cat([p.permute(0, dim, *rest) for p in pooled], dim=1)


def context_gate(x: Tensor, axis: str, conv: Gate, norm: Gate) -> Tensor:
    """``sigmoid(norm(conv(pool(x))))``, a gate in (0, 1).

    Args:
        x (Tensor): Feature map ``[N, C, T, H, W]``.
        axis (str): ``'C'``, ``'T'``, ``'H'`` or ``'W'``.
        conv (Callable): ``[N, 2, D1, D2, D3]`` to ``[N, 1, D1, D2, D3]``.
        norm (Callable): Normalisation of that one channel.

    Returns:
        Tensor: The shape of ``x`` with size 1 at ``axis``.
    """
    dim, rest = AXES[axis]
    gate = torch.sigmoid(norm(conv(context_pool(x, axis))))
    # [N, 1, D1, D2, D3] -> [N, C, T, H, W] with size 1 at dim
    order = (0, dim) + rest
    return gate.permute([order.index(d) for d in range(5)])


def channel_context(x: Tensor, gate_c: Gate) -> Tensor:
    """C: ``x`` times its channel-context gate."""
    return x * gate_c(x)


def spatiotemporal_context(
    x: Tensor, gate_t: Gate, gate_h: Gate, gate_w: Gate
) -> Tensor:
    """ST: ``x`` times the mean of its T, H and W gates."""
    return x * ((gate_t(x) + gate_h(x) + gate_w(x)) / 3)


def cinst(x: Tensor, gate_c: Gate, gate_t: Gate, gate_h: Gate, gate_w: Gate) -> Tensor:
    """CinST: channel attention refines the context of the ST gate.

    The inner gate never reaches the output: it only decides what the outer
    gate sees.
    """
    z = channel_context(x, gate_c)
    return x * ((gate_t(z) + gate_h(z) + gate_w(z)) / 3)


def stinc(x: Tensor, gate_c: Gate, gate_t: Gate, gate_h: Gate, gate_w: Gate) -> Tensor:
    """STinC: spatio-temporal attention refines the context of the C gate."""
    z = spatiotemporal_context(x, gate_t, gate_h, gate_w)
    return x * gate_c(z)
