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

from typing import Callable, Dict, List, Mapping, NamedTuple, Tuple

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


class GateAxes(NamedTuple):
    """The axes that have a gate. No axis has two."""

    inner: str
    outer: str

    # No property, which Dynamo of torch 2.4 does not know of tuples
    def all(self) -> str:
        """In the order in which the gates are computed."""
        return self.inner + self.outer


# Everything that is computed, registered and checked starts from this table.
LAYERS = {
    'ChannelContext': GateAxes(inner='', outer='C'),
    'SpatioTemporalContext': GateAxes(inner='', outer='THW'),
    'CinST': GateAxes(inner='C', outer='THW'),
    'STinC': GateAxes(inner='THW', outer='C'),
}


def attention(x: Tensor, axes: GateAxes, gates: Mapping[str, Gate]) -> Tensor:
    """A whole layer.

    The inner gates never reach the output. They only decide what the outer
    gates see.

    Args:
        x (Tensor): Feature map ``[N, C, T, H, W]``.
        axes (GateAxes): A row of :data:`LAYERS`.
        gates (Mapping[str, Callable]): A gate for each of the axes, most often
            :func:`context_gate`.

    Returns:
        Tensor: The shape of ``x``.
    """
    z = x
    if axes.inner:
        z = weigh(x, [gates[axis](x) for axis in axes.inner])
    return weigh(x, [gates[axis](z) for axis in axes.outer])


def weigh(x: Tensor, gates: List[Tensor]) -> Tensor:
    """``x`` times the mean of the gates."""
    if len(gates) == 1:
        return x * gates[0]
    return x * (sum(gates[1:], gates[0]) / len(gates))


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
