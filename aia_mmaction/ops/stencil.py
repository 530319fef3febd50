"""The 3x3x3 convolution between few channels, forward and backward.

A gate's ``Conv3d`` from two channels to one is slow everywhere: the libraries
are made for many channels. Here it is a ``Conv2d`` that has enough channels for
them to be fast, with a weight that repeats the kernel along a band.
"""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Slices of the banded axis that one Conv2d computes: with the one on either
# side it needs, and two pooled channels, it reads 32 channels.
BLOCK = 14


def conv(
    volume: Tensor,
    weight: Tensor,
    slope: Optional[Tensor] = None,
    offset: Optional[Tensor] = None,
) -> Tensor:
    """Convolve with padding 1.

    Args:
        volume (Tensor): ``[N, I, D1, D2, D3]``.
        weight (Tensor): ``[O, I, 3, 3, 3]``.
        slope (Tensor, optional): What the result is multiplied by, ``[]``.
        offset (Tensor, optional): What is added to it then, ``[]``; either
            both are given, or neither.

    Returns:
        Tensor: ``[N, O, D1, D2, D3]``.
    """
    if slope is not None:
        weight = weight * slope
    return _banded(volume, weight, offset)


def scale_and_shift(x: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    """``x * slope + offset``."""
    return torch.addcmul(offset, x, slope)


def conv_weight_grad(volume: Tensor, grad: Tensor) -> Tensor:
    """Gradient ``[2, 3, 3, 3]`` of the kernel of one gate, from its input
    ``[N, 2, D1, D2, D3]`` and the gradient of its output.
    """
    images = _blocks(volume)
    block, halo = _block(volume.shape[2])
    grad = _to_blocks(grad, block, 0)
    like_band = images.new_empty(block, images.shape[1], 3, 3)
    band = torch.ops.aten.convolution_backward(
        grad,
        images,
        like_band,
        None,
        [1, 1],
        [1, 1],
        [1, 1],
        False,
        [0, 0],
        1,
        [False, True, False],
    )[1]
    # [block, 2 * slices, 3, 3] -> [block, block + 2, 2, 3, 3], whose row b has
    # the kernel at b, b + 1, b + 2
    band = band.unflatten(1, (2, -1)).transpose(1, 2)
    band = F.pad(band, (0, 0) * 3 + (1 - halo, 1 - halo))
    # Rows one longer put the kernels below each other, as in :func:`band`.
    band = F.pad(band.flatten(0, 1), (0, 0) * 3 + (0, block))
    shifted: Tensor = band.unflatten(0, (block, block + 3))
    return shifted[:, :3].sum(0).transpose(0, 1)


def _banded(volume: Tensor, weight: Tensor, bias: Optional[Tensor] = None) -> Tensor:
    """D1 is cut into blocks, a batch of images ``D2 x D3`` whose channels are
    the slices of a block, so that a slice and its two neighbours are three
    channels of one image.
    """
    n, _, d1, d2, d3 = volume.shape
    repeated = band(weight, d1)
    if bias is not None:
        bias = bias.expand(len(repeated))
    out = F.conv2d(_blocks(volume), repeated, bias, padding=1)
    return _from_blocks(out.unflatten(1, (weight.shape[0], -1)), n, d1)


def _block(d1: int, most: int = BLOCK) -> Tuple[int, int]:
    """Slices in a block, and how many of its neighbours' it needs."""
    return (d1, 0) if d1 <= most else (most, 1)


def _blocks(volume: Tensor) -> Tensor:
    return _to_blocks(volume, *_block(volume.shape[2]))


def _to_blocks(volume: Tensor, block: int, halo: int) -> Tensor:
    """``[N, I, D1, D2, D3]`` to ``[N * blocks, I * (block + 2 * halo), D2,
    D3]``, with ``halo`` slices of the neighbours at each end, zeros beyond
    the volume.
    """
    d1 = volume.shape[2]
    blocks = -(-d1 // block)
    if blocks == 1:
        return volume.flatten(1, 2)
    padding = (halo, blocks * block - d1 + halo)
    volume = F.pad(volume, (0, 0, 0, 0) + padding)
    # -> [N, I, blocks, D2, D3, slices] -> [N, blocks, I, slices, D2, D3]
    volume = volume.unfold(2, block + 2 * halo, block)
    return volume.permute(0, 2, 1, 5, 3, 4).flatten(0, 1).flatten(1, 2)


def _from_blocks(images: Tensor, n: int, d1: int) -> Tensor:
    # [N * blocks, O, block, D2, D3] -> [N, O, D1, D2, D3]
    if len(images) == n:
        return images
    images = images.unflatten(0, (n, -1)).transpose(1, 2)
    return images.flatten(2, 3)[:, :, :d1]


def band(weight: Tensor, d1: int, most: int = BLOCK) -> Tensor:
    """``[O, I, 3, 3, 3]`` to ``[O * block, I * (block + 2 * halo), 3, 3]``, in
    blocks of at most so many slices.

    With halo, output slice b sees the input slices b, b + 1 and b + 2, by the
    first, middle and last planes of the kernel. A row of the band is as long
    as the kernel with ``block - 1`` zeros; written one zero longer, without a
    gap, each row starts one further right than the row above.
    """
    block, halo = _block(d1, most)
    # [O, I, 3, 3, 3] -> [3, O, I, 3, 3] -> [block + 3, O, I, 3, 3]
    rows = F.pad(weight.permute(2, 0, 1, 3, 4), (0, 0) * 4 + (0, block))
    rows = rows.expand(block, *rows.shape).flatten(0, 1)
    rows = rows[: block * (block + 2)].unflatten(0, (block, block + 2))
    if not halo:  # a single block: what lies beyond it is zero
        rows = rows[:, 1:-1]
    # [block, slices, O, I, 3, 3] -> [O, block, I, slices, 3, 3]
    repeated: Tensor = rows.permute(2, 0, 3, 1, 4, 5).flatten(0, 1).flatten(1, 2)
    return repeated
