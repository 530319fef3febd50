"""How long things take, on a machine that slows down now and then."""

import ctypes
import time
from statistics import median
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional

import torch

Row = Dict[str, Any]  # of a table


def keep_freed_memory() -> None:
    """Have glibc reuse memory, as other allocators and CUDA's do.

    By default it hands large blocks back to the system, at moments that
    depend on all that was allocated before; to get them anew is up to a sixth
    of a network's time, and differs from run to run.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, 'mallopt'):
        return
    m_trim_threshold, m_mmap_max = -1, -4  # <malloc.h>
    libc.mallopt(m_trim_threshold, -1)
    libc.mallopt(m_mmap_max, 0)


class Setting(NamedTuple):
    """Where and in which precision everything runs."""

    device: torch.device
    dtype: Optional[torch.dtype] = None  # of autocast
    channels_last: bool = False
    repeats: int = 10  # rounds after the warm-up

    def autocast(self) -> torch.autocast:
        """The precision, as a context."""
        return torch.autocast(
            self.device.type, self.dtype, enabled=self.dtype is not None
        )

    def prepare(self, x: Any) -> Any:
        """A tensor or a module on the device, in the layout."""
        if not self.channels_last:
            return x.to(self.device)
        if isinstance(x, torch.Tensor) and x.dim() == 5:
            # [N, M, C, H, W]: the recognizer folds N and M itself
            return (
                x.to(self.device)
                .flatten(0, 1)
                .contiguous(memory_format=torch.channels_last)
                .view(x.shape)
            )
        return x.to(self.device, memory_format=torch.channels_last)

    def now(self) -> float:
        """Seconds, when everything that was begun is done."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize()
        return time.perf_counter()

    def seconds(self, function: Callable[[], Any]) -> float:
        """How long a call takes."""
        start = self.now()
        function()
        return self.now() - start

    def first_calls(
        self, functions: Mapping[str, Callable[[], Any]]
    ) -> Dict[str, float]:
        """Seconds of each function when it is new, and may have to compile."""
        return {name: self.seconds(f) for name, f in functions.items()}

    def interleave(
        self, functions: Mapping[str, Callable[[], Any]]
    ) -> Dict[str, float]:
        """Median seconds of each function, called in turns."""
        rounds = [self.first_calls(functions) for _ in range(2 + self.repeats)][2:]
        return {name: median(r[name] for r in rounds) for name in functions}
