"""An attention layer of PyTorch alone, where OpenMMLab is not installed."""

from typing import Optional, Type

from torch import Tensor, nn

from aia_mmaction import ops


class BareGate(nn.Module):
    """The gate of one axis.

    Args:
        axis (str): Of :data:`aia_mmaction.ops.AXES`.
        norm (nn.Module): Of one channel.
    """

    def __init__(self, axis: str, norm: nn.Module) -> None:
        super().__init__()
        self.axis = axis
        self.conv = nn.Conv3d(2, 1, 3, padding=1, bias=False)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, T, H, W]`` to the same shape with size 1 at the axis."""
        return ops.context_gate(x, self.axis, self.conv, self.norm)


class BareLayer(nn.Module):
    """The functions of :mod:`aia_mmaction.ops` with weights, and nothing around them.

    Args:
        name (str): A row of :data:`aia_mmaction.ops.LAYERS`.
        num_segments (int): Frames per clip.
        impl (str): What computes it.
        norm (type): Of the gates. Defaults to ``nn.BatchNorm3d``.
    """

    def __init__(
        self,
        name: str,
        num_segments: int,
        impl: str,
        norm: Type[nn.Module] = nn.BatchNorm3d,
    ) -> None:
        super().__init__()
        self.axes = ops.LAYERS[name]
        self.num_segments = num_segments
        self.impl = impl
        self.gates = nn.ModuleDict(
            {axis: BareGate(axis, norm(1)) for axis in self.axes.all()}
        )

    def forward(self, x: Tensor, activation: Optional[nn.Module] = None) -> Tensor:
        """``[N * T, C, H, W]`` to the same shape."""
        gates = {axis: ops.read_gate(gate) for axis, gate in self.gates.items()}
        path, _ = ops.choose(self.impl, x, self.axes, gates, self.num_segments)
        return ops.attention(x, path, self.axes, gates, self.num_segments, activation)
