"""What one layer costs, against the bandwidth of the memory."""

from functools import partial
from typing import Any, Callable, Dict, List, Sequence, Tuple

import torch
from torch import Tensor, nn

from aia_mmaction.layers import build_layer

from .networks import Row
from .timing import Setting
from .verification import compare

# After norm2 in the four stages of a ResNet-50 at 224 pixels
STAGES = [(64, 56), (128, 28), (256, 14), (512, 7)]


def measure_layers(
    names: Sequence[str],
    impls: Sequence[str],
    setting: Setting,
    batch: int,
    num_segments: int,
    maps: Sequence[Tuple[int, int]],
) -> List[Row]:
    """One row for each layer, map and path, against the copy bandwidth.

    Args:
        names (Sequence[str]): Layers.
        impls (Sequence[str]): Paths.
        setting (Setting): Where and how.
        batch (int): Clips.
        num_segments (int): Frames per clip.
        maps (Sequence[tuple[int, int]]): Channels, and side in pixels.
    """
    rows: List[Row] = []
    for name in names:
        for channels, side in maps:
            # [N * T, C, H, W], as in a 2-D network
            shape = batch * num_segments, channels, side, side
            x = setting.prepare(torch.randn(shape))
            x = x if setting.dtype is None else x.to(setting.dtype)
            layers = {}
            for impl in impls:
                layer = build_layer(
                    dict(type=name, num_segments=num_segments, impl=impl)
                )
                layers[impl] = layer.to(setting.device)
            rows += measure_layer(name, layers, x, setting)
    return rows


def measure_layer(
    name: str, layers: Dict[str, nn.Module], x: Tensor, setting: Setting
) -> List[Row]:
    """One row for each path, and one for the copy."""
    leaf, grad = x.clone().requires_grad_(), torch.randn_like(x)
    other = torch.empty_like(x)

    @torch.no_grad()
    def infer(layer: nn.Module) -> None:
        with setting.autocast():
            layer(x)

    def train(layer: nn.Module) -> None:
        with setting.autocast():
            out = layer(leaf)
        out.backward(grad)

    functions: Dict[str, Callable[[], Any]] = {
        impl: partial(infer, m) for impl, m in layers.items()
    }
    for layer in layers.values():
        layer.eval()
    first = setting.first_calls(functions)
    for mode in (True, False):
        for impl, layer in layers.items():
            compare(impl, layer.train(mode), x)
    copying = partial(other.copy_, x)
    inference = setting.interleave(dict(functions, copy=copying))
    for layer in layers.values():
        layer.train()
    training = setting.interleave(
        {impl: partial(train, m) for impl, m in layers.items()}
    )
    # A copy reads and writes once. The layer cannot do with less than three
    # reads and a write, and one of each less without an inner gate.
    floor = 2 * inference['copy']
    return [
        dict(
            layer=name,
            variant=impl,
            input='x'.join(map(str, x.shape)),
            **{
                'inference (ms)': inference[impl] * 1e3,
                'of the bytes at copy speed': inference[impl] / floor,
                'forward and backward (ms)': training[impl] * 1e3,
                'first call (s)': first[impl],
            },
        )
        for impl in layers
    ] + [
        dict(
            layer=name,
            variant='copy',
            input='x'.join(map(str, x.shape)),
            **{
                'inference (ms)': inference['copy'] * 1e3,
                'copy (GB/s)': 2
                * x.numel()
                * x.element_size()
                / inference['copy']
                / 1e9,
            },
        )
    ]
