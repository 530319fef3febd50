"""The gates of a network, as maps over the frames of a clip."""

from typing import Dict, List, NamedTuple

from torch import Tensor, nn

from aia_mmaction.layers import ContextAttention, attention_modules
from aia_mmaction.plugins import attention_layers
from aia_mmaction.plugins.stages import find_pathways, find_stages

COMBINATIONS = {
    'product': lambda t, h, w: t * h * w,
    'mean': lambda t, h, w: (t + h + w) / 3,
}


class GateMap(NamedTuple):
    """A gate, or several as one, over the frames.

    Attributes:
        title (str): Which gates of which layer.
        values (Tensor): ``[N, T, H, W]`` in (0, 1), of the size of the
            layer's feature map.
    """

    title: str
    values: Tensor


def layers_by_stage(model: nn.Module) -> Dict[str, List[ContextAttention]]:
    """The attention in the last block of each stage that has any.

    Returns:
        dict[str, list[ContextAttention]]: By the number of the stage, from
        1, after ``slow`` or ``fast`` in a SlowFast; ``'neck'`` for an AIANeck.
    """
    stages = {}
    backbone = getattr(model, 'backbone', model)
    if attention_layers(backbone):
        for pathway, network in find_pathways(backbone).items():
            for number, blocks in enumerate(find_stages(network), 1):
                for block in blocks:
                    layers = [m for host in block for m in attention_modules(host)]
                    if layers:
                        stages[f'{pathway} {number}'.strip()] = layers
    neck = attention_modules(getattr(model, 'neck', None) or nn.Module())
    if neck:
        stages['neck'] = neck
    return stages


def gate_maps(
    layer: ContextAttention, gates: Dict[str, Tensor], combine: str = 'product'
) -> List[GateMap]:
    """A layer's gates as maps over the frames.

    Args:
        layer (ContextAttention): The layer.
        gates (dict[str, Tensor]): What ``recorded_gates`` has of it.
        combine (str): What the gates of T, H and W are made into, before the
            mean over the channels is taken: their ``'product'``, which is
            large where all three are, or their ``'mean'``, which is what the
            layer multiplies by. Defaults to ``'product'``.

    Returns:
        list[GateMap]: Of the C gate, and of the gates of T, H and W.
    """
    name = type(layer).__name__
    maps = []
    if 'C' in gates:
        # [N, 1, T, H, W] -> [N, T, H, W]
        maps.append(GateMap(f'{name}\nC gate', gates['C'].squeeze(1)))
    if 'T' in gates:
        # [N, C, 1, H, W], [N, C, T, 1, W], [N, C, T, H, 1] -> [N, C, T, H, W]
        combined = COMBINATIONS[combine](*(gates[axis] for axis in 'THW'))
        title = 'T·H·W gates' if combine == 'product' else 'T+H+W gates / 3'
        maps.append(GateMap(f'{name}\n{title}', combined.mean(1)))
    return maps
