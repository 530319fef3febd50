"""No speed without right results."""

from typing import Any, Dict, Optional, Tuple

import torch
from torch import Tensor, nn

from aia_mmaction.ops.parity import deviations
from aia_mmaction.plugins import attention_layers
from aia_mmaction.plugins.slots import PluggedActivation

from .timing import Setting


class WrongResults(ValueError):
    """A path computes something else than the reference."""


def verify(name: str, model: nn.Module, x: Tensor, setting: Setting) -> None:
    """Compare the attention layers with the reference on the shapes that they
    see, in the mode that they are in.

    Raises:
        WrongResults: If they differ.
    """
    seen: Dict[Any, Tuple[nn.Module, Tensor]] = {}

    def remember(layer: nn.Module, args: Tuple[Any, ...]) -> None:
        key = type(layer), args[0].shape, args[0].stride()
        seen.setdefault(key, (layer, args[0].detach()))

    layers = [layer for _, layer in attention_layers(model)]
    activations = {
        plugged.after_norm[-1]: plugged.activation
        for plugged in model.modules()
        if isinstance(plugged, PluggedActivation) and plugged.after_norm
    }
    handles = [layer.register_forward_pre_hook(remember) for layer in layers]
    with torch.no_grad(), setting.autocast():
        model(x, mode='tensor')
    for handle in handles:
        handle.remove()
    for layer, features in seen.values():
        compare(name, layer, features, activations.get(layer))


def compare(
    name: str, layer: nn.Module, x: Tensor, activation: Optional[nn.Module] = None
) -> None:
    """The same for one layer and a random input like ``x``."""
    noise = torch.randn_like(x)
    beyond = deviations(layer, noise, torch.randn_like(x), [activation])
    if beyond:
        raise WrongResults(
            f'{name}: no speed is printed. Expected the results of the '
            f'reference, got relative errors {beyond} of '
            f'{type(layer).__name__} on {tuple(x.shape)}, {x.dtype}. Run '
            'tests/ops, and use another impl until it is mended.'
        )
