"""What attention would cost on a GPU that is not there: a prediction, no measurement.

Every module takes the longer of its arithmetic and its traffic, at the rates that
the maker publishes, and every launch the same time on top. Real networks reach less
of these rates, which makes the plain one slower and the ratio smaller; additions and
shifts that are no modules are left out. It holds where the GPU is busy all the time.
"""

from typing import Any, List, NamedTuple, Tuple

import torch
from mmengine.config import Config
from torch import Tensor, nn

from aia_mmaction.layers import ContextAttention
from aia_mmaction.plugins import attention_layers

from .gpu_counts import passes
from .networks import frames_per_clip, input_shape
from .timing import Row
from .untrained import build_untrained

BYTES = 2  # of a number in half precision
LAUNCH = 2e-6  # seconds that a kernel takes at least; an assumption
# Launches of a layer as `benchmark.py counts` prints them, with those of PyTorch:
# in inference, and in a step of training
LAUNCHES = {True: (10, 26), False: (8, 18)}  # whether it is nested


class Gpu(NamedTuple):
    """Rates that NVIDIA publishes."""

    bandwidth: float  # bytes per second
    arithmetic: float  # operations of dense half precision per second


GPUS = {
    'A100 SXM 80 GB': Gpu(2.039e12, 312e12),
    'H100 SXM 80 GB': Gpu(3.35e12, 989e12),
}


def predict(cfg: Config, name: str, batch: int, size: int) -> List[Row]:
    """One row for each GPU and pass.

    Args:
        cfg (Config): The config.
        name (str): What the table calls it.
        batch (int): Clips.
        size (int): Side of the frames in pixels.
    """
    frames = frames_per_clip(cfg)
    with torch.device('meta'):
        model = build_untrained(cfg, plain=False).eval()
        x = torch.empty(input_shape(cfg, batch, frames, size))
    modules, layers = _look(model, x)
    rows: List[Row] = []
    for gpu, (bandwidth, arithmetic) in GPUS.items():
        plain = sum(
            max(operations / arithmetic, BYTES * elements / bandwidth) + LAUNCH
            for operations, elements in modules
        )
        attention = [0.0, 0.0]
        for layer, elements in layers:
            forward, backward = passes(layer.axes)
            # In training the ReLU behind reads the input again.
            for i, times in enumerate((forward, forward + backward + 1)):
                attention[i] += BYTES * elements * times / bandwidth
                attention[i] += LAUNCHES[bool(layer.axes.inner)][i] * LAUNCH
        # Two passes backward for one forward
        for what, ours, of_plain in zip(
            ('inference', 'training step'), attention, (plain, 3 * plain)
        ):
            rows.append(
                {
                    'config': name,
                    'batch': batch,
                    'gpu': gpu,
                    'pass': what,
                    'predicted: plain (ms)': 1e3 * of_plain,
                    'attention (ms)': 1e3 * ours,
                    'over plain': 1 + ours / of_plain,
                }
            )
    return rows


def _look(
    model: nn.Module, x: Tensor
) -> Tuple[List[Tuple[int, int]], List[Tuple[ContextAttention, int]]]:
    """Operations and elements of the plain network's modules, and the elements that
    each attention layer sees.
    """
    modules: List[Tuple[int, int]] = []
    layers: List[Tuple[ContextAttention, int]] = []
    of_attention = {m for _, layer in attention_layers(model) for m in layer.modules()}

    def look(module: nn.Module, args: Any, out: Any) -> None:
        if isinstance(module, ContextAttention):
            layers.append((module, args[0].numel()))
        elif module not in of_attention and isinstance(out, Tensor):
            operations = 0
            if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.Linear)):
                of_output = module.weight[0].numel()
                operations = 2 * of_output * out.numel()
            modules.append((operations, args[0].numel() + out.numel()))

    handles = [
        module.register_forward_hook(look)
        for module in model.modules()
        if isinstance(module, ContextAttention) or not list(module.children())
    ]
    with torch.no_grad():
        model(x, mode='tensor')
    for handle in handles:
        handle.remove()
    return modules, layers
