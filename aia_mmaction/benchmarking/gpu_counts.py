"""What a GPU would do for a layer, counted without one.

Triton's interpreter runs the kernels; ``TRITON_INTERPRET=1`` has to be set before
Python starts.
"""

import os
import time
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any, Dict, Iterator, List, Sequence, Tuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from aia_mmaction.layers import build_layer
from aia_mmaction.ops import LAYERS, GateAxes

from .timing import Row

# Small and odd; what is counted is in multiples of the input.
SHAPE = (4, 6, 5, 3)  # [N * T, C, H, W]
NUM_SEGMENTS = 2
CALLS = 300  # that host time is the median of


def passes(axes: GateAxes) -> Tuple[int, int]:
    """How often what is as large as the input must be read or written.

    Forward, a read for the pools of each group of gates, and one of each for the
    product. Backward, the gradient and the input for the sums of the outer gates,
    the input for those of inner ones, and the gradient and the result at the end.
    """
    return 3 + bool(axes.inner), 4 + bool(axes.inner)


def count_layers(names: Sequence[str]) -> List[Row]:
    """One row for each layer, layout and pass, with a ReLU behind.

    Forward and backward are a step of training.

    Args:
        names (Sequence[str]): Layers.

    Raises:
        ValueError: If Triton does not interpret kernels.
    """
    if os.environ.get('TRITON_INTERPRET') != '1':
        raise ValueError(
            'expected the environment variable TRITON_INTERPRET=1, with which Triton '
            'runs kernels without a GPU.'
        )
    return [
        row
        for name in names
        for channels_last in (False, True)
        for row in _count_layer(name, channels_last)
    ]


def _count_layer(name: str, channels_last: bool) -> Iterator[Row]:
    layer = build_layer(dict(type=name, num_segments=NUM_SEGMENTS, impl='triton'))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(SHAPE).contiguous(memory_format=layout).requires_grad_()
    relu = nn.ReLU()
    with counting(x) as forward:
        out = layer(x, relu)
    grad = torch.randn_like(out)
    with counting(x) as backward:
        out.backward(grad)
    host = _host_time(layer, x, relu, grad)
    layer.eval()
    with torch.no_grad(), counting(x) as inference:
        layer(x, relu)
    floors = passes(LAYERS[name])
    for what, counter, floor, seconds in (
        ('inference', inference, floors[0], host[0]),
        ('forward', forward, floors[0], host[1]),
        # The ReLU has the input read again, for its sign.
        ('backward', backward, floors[1] + 1, host[2]),
    ):
        yield {
            'layer': name,
            'layout': 'channels_last' if channels_last else 'NCHW',
            'pass': what,
            'kernels': counter.kernels,
            'by PyTorch': sum(counter.operations.values()),
            'read (of x)': counter.read / x.numel(),
            'written (of x)': counter.written / x.numel(),
            'of the floor': (counter.read + counter.written) / x.numel() / floor,
            'host (us)': seconds * 1e6,
        }


class Counter(TorchDispatchMode):
    """Launches, and elements that kernels read and write of large tensors."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.size = like.numel()
        self.kernels = self.read = self.written = 0
        self.operations: Dict[str, int] = {}
        self._large: List[Tuple[int, int]] = []  # where they begin and end
        self._inside = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = str(func)
        # Nothing is launched for a view or for memory.
        free = func.is_view or any(n in name for n in ('empty', 'detach', 'set_'))
        if not self._inside and not free:
            self.operations[name] = self.operations.get(name, 0) + 1
        return func(*args, **(kwargs or {}))

    def launch(self, run: Any, kernel: Any, programs: int, **arguments: Any) -> None:
        """Instead of ``run``, which it calls."""
        tensors = [a for a in arguments.values() if isinstance(a, Tensor)]
        # Maps and gates have other shapes.
        large = [t for t in tensors if t.dim() == 5 and t.numel() == self.size]
        self._large = [_extent(t) for t in large]
        self.kernels += 1
        self._inside = True
        run(kernel, programs, **arguments)
        self._inside = False

    def elements(self, pointers: Any, mask: Any) -> int:
        """How many of the pointers lead to large tensors."""
        at = pointers.data[mask.data]
        return sum(int(((at >= a) & (at < b)).sum()) for a, b in self._large)


def _extent(x: Tensor) -> Tuple[int, int]:
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride()))
    return x.data_ptr(), x.data_ptr() + (last + 1) * x.element_size()


@contextmanager
def counting(like: Tensor) -> Iterator[Counter]:
    """Count while the block lasts.

    Args:
        like (Tensor): Large is what has as many elements.
    """
    from triton.runtime.interpreter import interpreter_builder

    from aia_mmaction.ops.triton import attention

    counter = Counter(like)
    launch = attention._launch
    load = interpreter_builder.create_masked_load
    store = interpreter_builder.create_masked_store

    def counted_load(pointers: Any, mask: Any, *rest: Any) -> Any:
        counter.read += counter.elements(pointers, mask)
        return load(pointers, mask, *rest)

    def counted_store(pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        counter.written += counter.elements(pointers, mask)
        return store(pointers, value, mask, *rest)

    def counted_launch(*args: Any, **arguments: Any) -> None:
        counter.launch(launch, *args, **arguments)

    with ExitStack() as stack:
        for owner, name, new in (
            (attention, '_launch', counted_launch),
            (interpreter_builder, 'create_masked_load', counted_load),
            (interpreter_builder, 'create_masked_store', counted_store),
        ):
            stack.enter_context(patch.object(owner, name, new))
        stack.enter_context(counter)
        yield counter


def _host_time(
    layer: nn.Module, x: Tensor, relu: nn.Module, grad: Tensor
) -> List[float]:
    """Seconds of Python and PyTorch in each pass, with no kernel run.

    What Triton itself takes to launch is not in it.
    """
    from aia_mmaction.ops.triton import attention

    times: List[List[float]] = [[], [], []]
    with patch.object(attention, '_launch', lambda *args, **arguments: None):
        for _ in range(CALLS):
            layer.eval()
            with torch.no_grad():
                start = time.perf_counter()
                layer(x, relu)
                times[0].append(time.perf_counter() - start)
            layer.train()
            start = time.perf_counter()
            out = layer(x, relu)
            middle = time.perf_counter()
            out.backward(grad)
            times[1].append(middle - start)
            times[2].append(time.perf_counter() - middle)
    return [median(each) for each in times]
