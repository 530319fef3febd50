"""No speed without right results; nothing here needs OpenMMLab."""

from typing import Optional

import torch
from torch import Tensor, nn

from aia_mmaction.ops.parity import deviations


class WrongResults(ValueError):
    """A path computes something else than the reference."""


def compare(
    name: str, layer: nn.Module, x: Tensor, activation: Optional[nn.Module] = None
) -> None:
    """Compare a layer with the reference on a random input like ``x``, in the mode
    that it is in.

    Raises:
        WrongResults: If they differ.
    """
    noise = torch.randn_like(x)
    beyond = deviations(layer, noise, torch.randn_like(x), [activation])
    if beyond:
        raise WrongResults(
            f'{name}: no speed is printed. Expected the results of the '
            f'reference, got relative errors {beyond} of '
            f'{type(layer).__name__} on {tuple(x.shape)}, {x.dtype}. Run '
            'tests/ops, and use another impl until it is mended.'
        )
