"""Clips of 2-D networks, whose frames are folded into the batch."""

from torch import Tensor


def to_clips(x: Tensor, num_segments: int) -> Tensor:
    """``[N * num_segments, C, H, W]`` as ``[N, C, T, H, W]``; that shape as
    it is.
    """
    if x.dim() == 5:
        return x
    # [N * T, C, H, W] -> [N, T, C, H, W] -> [N, C, T, H, W]
    return x.view(-1, num_segments, *x.shape[1:]).transpose(1, 2)


def from_clips(x: Tensor, like: Tensor) -> Tensor:
    """Undo :func:`to_clips` for ``like``."""
    if like.dim() == 5:
        return x
    # [N, C, T, H, W] -> [N, T, C, H, W] -> [N * T, C, H, W]
    return x.transpose(1, 2).flatten(0, 1)
