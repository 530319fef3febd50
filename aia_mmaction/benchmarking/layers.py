"""What one layer costs, against the reference and against what no code can beat."""

from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor, nn

from aia_mmaction.ops import AXES, LAYERS

from .timing import Row, Setting
from .verification import compare

# After norm2 in the four stages of a ResNet-50 at 224 pixels
STAGES = [(64, 56), (128, 28), (256, 14), (512, 7)]
# From wide and shallow to narrow and deep: clips, channels, side in pixels
MAPS = [
    (clips, channels, side)
    for clips in (1, 8)
    for channels, side in [
        (16, 56),
        (64, 2),
        (64, 7),
        (64, 28),
        (64, 56),
        (256, 2),
        (256, 7),
        (256, 28),
        (2048, 2),
        (2048, 7),
    ]
]
_SIDE = 1024  # of the matrices whose product tells the machine's rate


class Floors(NamedTuple):
    """Seconds that no code can beat, each measured on the same machine."""

    traffic: float  # reading and writing what is as large as the input
    arithmetic: float  # the multiply-adds of the convolutions
    start: float  # calls, on an input of a few numbers

    @property
    def largest(self) -> float:
        """Of the three."""
        return max(self)


def measure_layers(
    names: Sequence[str],
    impls: Sequence[str],
    setting: Setting,
    num_segments: int,
    maps: Sequence[Tuple[int, int, int]],
    build: Callable[[str, int, str], nn.Module],
) -> List[Row]:
    """One row for each layer, map and path, and one for the floors.

    Args:
        names (Sequence[str]): Layers.
        impls (Sequence[str]): Paths.
        setting (Setting): Where and how.
        num_segments (int): Frames per clip.
        maps (Sequence[tuple[int, int, int]]): Clips, channels, and side in pixels.
        build (callable): A layer from a name, frames per clip and a path.
    """
    rows: List[Row] = []
    for name in names:
        for clips, channels, side in maps:
            layers = {
                impl: build(name, num_segments, impl).to(setting.device)
                for impl in impls
            }
            # [N * T, C, H, W], as in a 2-D network
            shape = clips * num_segments, channels, side, side
            rows += measure_layer(name, layers, shape, num_segments, setting)
    return rows


def measure_layer(
    name: str,
    layers: Dict[str, nn.Module],
    shape: Tuple[int, ...],
    num_segments: int,
    setting: Setting,
) -> List[Row]:
    """One row for each path, and one for the floors.

    The fastest path's calls are the floor of all.
    """
    dtype = setting.dtype or torch.float32
    x = setting.prepare(torch.randn(shape)).to(dtype)
    few = setting.prepare(torch.randn(num_segments, 2, 1, 1)).to(dtype)
    matrix = torch.randn(_SIDE, _SIDE, device=setting.device)
    for layer in layers.values():
        layer.eval()
    inferring = {impl: partial(_infer, m, x, setting) for impl, m in layers.items()}
    first = setting.first_calls(inferring)
    for in_training in (True, False):
        for impl, layer in layers.items():
            compare(impl, layer.train(in_training), x)

    def measure(call: Callable[..., None]) -> Dict[str, float]:
        functions: Dict[str, Callable[[], Any]] = {
            'copy': partial(torch.empty_like(x).copy_, x),
            'product': partial(torch.mm, matrix, matrix),
        }
        for impl, layer in layers.items():
            functions[impl] = partial(call, layer, x, setting)
            functions[f'start {impl}'] = partial(call, layer, few, setting)
        return setting.interleave(functions)

    inference = measure(_infer)
    for layer in layers.values():
        layer.train()
    training = measure(_train)
    axes = LAYERS[name]
    macs = _multiply_adds(axes.all(), shape, num_segments)
    # Reads and writes of the map: forward, a read for the pools of each group of
    # gates, and one of each for the product; backward, the gradient and the input
    # for the sums of the outer gates, the input for those of the inner ones, and
    # the gradient and the result at the end.
    forward = 3 + bool(axes.inner)
    backward = 4 + bool(axes.inner)
    starts = [f'start {impl}' for impl in layers]
    floors = {
        'inference': _floors(inference, starts, forward, macs),
        # As many again for the gradients of the pools and of the weights
        'training': _floors(training, starts, forward + backward, 3 * macs),
    }
    rows = []
    common = dict(layer=name, input='x'.join(map(str, shape)))
    for impl in layers:
        row: Row = dict(common, variant=impl)
        for mode, seconds in (('inference', inference), ('training', training)):
            row[f'{mode} (ms)'] = seconds[impl] * 1e3
            if 'reference' in layers:
                row[f'{mode} ratio'] = seconds[impl] / seconds['reference']
            row[f'of the {mode} floor'] = seconds[impl] / floors[mode].largest
        row['first call (s)'] = first[impl]
        rows.append(row)
    row = dict(common, variant='floors: traffic, multiply-adds, calls')
    for mode, of_mode in floors.items():
        row[f'{mode} (ms)'] = ', '.join(f'{seconds * 1e3:.2f}' for seconds in of_mode)
    size = 2 * x.numel() * x.element_size()
    row['copy (GB/s)'] = size / inference['copy'] / 1e9
    return [*rows, row]


@torch.no_grad()
def _infer(layer: nn.Module, x: Tensor, setting: Setting) -> None:
    with setting.autocast():
        layer(x)


def _train(layer: nn.Module, x: Tensor, setting: Setting) -> None:
    leaf = x.detach().requires_grad_()
    with setting.autocast():
        out = layer(leaf)
    out.backward(out.detach())


def _multiply_adds(axes: str, shape: Tuple[int, ...], num_segments: int) -> int:
    """Of the convolutions of the gates of some axes."""
    frames, channels, height, width = shape
    sizes = (frames // num_segments, channels, num_segments, height, width)
    size = torch.Size(sizes).numel()
    return sum(2 * 27 * size // sizes[AXES[axis][0]] for axis in axes)


def _floors(
    seconds: Dict[str, float], starts: Sequence[str], passes: int, macs: int
) -> Floors:
    return Floors(
        traffic=seconds['copy'] * passes / 2,
        arithmetic=seconds['product'] * macs / _SIDE**3,
        start=min(seconds[name] for name in starts),
    )
