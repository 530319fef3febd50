"""What the gates of layers are, which only the reference path has as tensors."""

from contextlib import contextmanager
from functools import partial
from typing import Any, Dict, Iterator, List

import torch
from torch import Tensor, nn

from aia_mmaction.ops import impl

from .attention import ContextAttention


@contextmanager
def recorded_gates(model: nn.Module) -> Iterator[Dict[nn.Module, Dict[str, Tensor]]]:
    """Record what the gates are while the block lasts.

    The layers take the reference path meanwhile, the only one that has every
    gate as a tensor.

    Yields:
        dict[nn.Module, dict[str, Tensor]]: By layer and axis, of the last
        forward pass: ``[N, C, T, H, W]`` with size 1 at the axis.
    """
    gates: Dict[nn.Module, Dict[str, Tensor]] = {}
    hooks = []
    for layer in attention_modules(model):
        gates[layer] = {}
        for gate in layer.children():
            hooks.append(gate.register_forward_hook(partial(_record, gates[layer])))
    try:
        with impl('reference'):
            yield gates
    finally:
        for hook in hooks:
            hook.remove()


def _record(
    recorded: Dict[str, Tensor], gate: nn.Module, args: Any, output: Tensor
) -> None:
    recorded[str(gate.axis)] = output.detach()


@torch.no_grad()
def measure_gates(layer: ContextAttention, x: Tensor) -> Dict[str, Tensor]:
    """What the gates of a layer are for an input, in the mode that the layer is in.

    Nothing of the layer changes, its running statistics neither.

    Args:
        layer (ContextAttention): The layer.
        x (Tensor): Its input.

    Returns:
        dict[str, Tensor]: By axis, ``[N, C, T, H, W]`` with size 1 at the axis.
    """
    before = [buffer.clone() for buffer in layer.buffers()]
    with recorded_gates(layer) as gates:
        layer.forward(x)  # without the hooks of the layer
    for buffer, value in zip(layer.buffers(), before):
        buffer.copy_(value)
    # Under autocast it has weights that were cast here, without gradients.
    torch.clear_autocast_cache()
    return gates[layer]


def attention_modules(module: nn.Module) -> List[ContextAttention]:
    """Every attention layer in a module."""
    return [m for m in module.modules() if isinstance(m, ContextAttention)]
