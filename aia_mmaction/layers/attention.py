"""The four attention layers of the paper (arXiv 2204.09303, section III)."""
from typing import Callable, Optional

from mmaction.registry import MODELS
from torch import Tensor, nn

from aia_mmaction import ops

from .context_gate import ContextGate


def check_whole_clips(x: Tensor, num_segments: Optional[int],
                      module: nn.Module) -> None:
    """Raise a ValueError if frames in the batch axis do not make clips."""
    if num_segments is not None and x.dim() == 4 and (x.shape[0] %
                                                      num_segments):
        raise ValueError(
            f'{type(module).__name__}: expected whole clips of num_segments='
            f'{num_segments} frames, got a batch of {x.shape[0]} frames, not '
            'a multiple of it. Give num_clips of the pipeline and '
            'num_segments of backbone and head the same value.')


class ContextAttention(nn.Module):
    """Base of the attention layers.

    A layer says which axes have a gate and which function of
    :mod:`aia_mmaction.ops` combines them; the gates are its children
    ``gate_c``, ``gate_t``, ``gate_h`` and ``gate_w``, as far as it has them.

    Args:
        num_segments (int, optional): Frames per clip, needed for the 4-D
            input of 2-D networks, where frames are folded into the batch.
            5-D input needs none. Defaults to None.
        norm_cfg (dict): Config of the gates' norm over one channel.
            Defaults to ``dict(type='BN3d')``.
    """

    axes: str
    outer_axes: str = ''
    function: Callable[..., Tensor]

    def __init__(
        self,
        num_segments: Optional[int] = None,
        norm_cfg: dict = dict(type='BN3d')
    ) -> None:
        super().__init__()
        if num_segments is not None and (not isinstance(num_segments, int)
                                         or num_segments < 1):
            raise ValueError(
                f'{type(self).__name__}: expected num_segments to be a '
                f'positive int, the frames per clip, got {num_segments!r}.')
        self.num_segments = num_segments
        for axis in self.axes:
            gate = ContextGate(axis, axis in self.outer_axes, norm_cfg)
            self.add_module(f'gate_{axis.lower()}', gate)

    def init_weights(self) -> None:
        for gate in self.children():
            gate.init_weights()

    def forward(self, x: Tensor) -> Tensor:
        """Reweight a feature map.

        Args:
            x (Tensor): ``[N, C, T, H, W]``, or ``[N * T, C, H, W]`` with
                ``T = num_segments``; any floating-point dtype.

        Returns:
            Tensor: Same shape.

        Raises:
            TypeError: If ``x`` is not floating-point.
            ValueError: If ``x`` is not 4-D or 5-D, or is 4-D and its first
                size is not a multiple of ``num_segments``.
        """
        self._check_input(x)
        gates = self.children()
        if x.dim() == 5:
            return self.function(x, *gates)
        # [N * T, C, H, W] -> [N, T, C, H, W] -> [N, C, T, H, W]
        x = x.unflatten(0, (-1, self.num_segments)).transpose(1, 2)
        x = self.function(x, *gates)
        # [N, C, T, H, W] -> [N, T, C, H, W] -> [N * T, C, H, W]
        return x.transpose(1, 2).flatten(0, 1)

    def _check_input(self, x: Tensor) -> None:
        name = type(self).__name__
        if not x.is_floating_point():
            raise TypeError(
                f'{name}: expected a floating-point feature map, got '
                f'{x.dtype}. Convert it first, e.g. with x.float().')
        if x.dim() == 5:
            return
        if x.dim() != 4:
            raise ValueError(
                f'{name}: expected features [N, C, T, H, W] or '
                f'[N * num_segments, C, H, W], got {x.dim()}-D features of '
                f'shape {tuple(x.shape)}. Keep the axes apart until after '
                'the attention.')
        if self.num_segments is None:
            raise ValueError(
                f'{name}: expected num_segments for 4-D features '
                f'{tuple(x.shape)}, whose first axis holds the frames of '
                f"all clips, got None. Set it: dict(type='{name}', "
                'num_segments=8).')
        check_whole_clips(x, self.num_segments, self)

    def extra_repr(self) -> str:
        return f'num_segments={self.num_segments}'


@MODELS.register_module()
class ChannelContext(ContextAttention):
    """C: single channel-context attention."""
    axes = 'C'
    function = staticmethod(ops.channel_context)


@MODELS.register_module()
class SpatioTemporalContext(ContextAttention):
    """ST: single spatio-temporal attention, the mean of three gates."""
    axes = 'THW'
    function = staticmethod(ops.spatiotemporal_context)


@MODELS.register_module()
class CinST(ContextAttention):
    """CinST: channel attention inside spatio-temporal attention.

    The authors' code initialises its H convolution twice and leaves W at
    PyTorch's default; here all three outer gates start Xavier-normal.
    """
    axes = 'CTHW'
    outer_axes = 'THW'
    function = staticmethod(ops.cinst)


@MODELS.register_module()
class STinC(ContextAttention):
    """STinC: spatio-temporal attention inside channel attention."""
    axes = 'CTHW'
    outer_axes = 'C'
    function = staticmethod(ops.stinc)
