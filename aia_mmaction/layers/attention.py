"""The four attention layers of the paper (arXiv 2204.09303, section III)."""

import logging
from typing import Any, Dict, List, Optional

import torch
from mmaction.registry import MODELS
from mmengine.logging import print_log
from torch import Tensor, nn

from aia_mmaction import ops

from .context_gate import ContextGate

INITS = ('paper', 'identity')


def check_whole_clips(
    x: Tensor, num_segments: Optional[int], module: nn.Module
) -> None:
    """Raise a ValueError if frames in the batch axis do not make clips."""
    if num_segments is None or x.dim() != 4 or torch.jit.is_tracing():
        return  # a trace cannot hold the check: it is of one example
    if x.shape[0] % num_segments:
        raise ValueError(
            f'{type(module).__name__}: expected whole clips of num_segments='
            f'{num_segments} frames, got a batch of {x.shape[0]} frames, not '
            'a multiple of it. Give num_clips of the pipeline and '
            'num_segments of backbone and head the same value.'
        )


class ContextAttention(nn.Module):
    """Base of the attention layers.

    A layer is a row of :data:`aia_mmaction.ops.LAYERS`, which says which axes
    have an outer gate, which multiplies the input, and which an inner one,
    which refines what the outer ones see. The gates are its children
    ``gate_c``, ``gate_t``, ``gate_h`` and ``gate_w``, as far as it has them.

    Args:
        num_segments (int, optional): Frames per clip, needed for the 4-D
            input of 2-D networks, where frames are folded into the batch.
            5-D input needs none. Defaults to None.
        norm_cfg (dict): Config of the gates' norm over one channel.
            Defaults to ``dict(type='BN3d')``.
        impl (str): What computes it: ``'reference'``, ``'fused'``,
            ``'numba'``, ``'triton'``, or ``'auto'`` for the fastest that
            can (:mod:`aia_mmaction.ops.dispatch`). The environment variable
            ``AIA_MMACTION_IMPL`` replaces it. Defaults to ``'auto'``.
        init (str): How the gates that multiply the input start. ``'paper'``:
            around 0.5, so that the layer halves its input. ``'identity'``: near 1
            (the bias of their norms is 4, whose sigmoid is 0.982), for networks
            that are trained already. Defaults to ``'paper'``.

    Raises:
        ValueError: If an argument is none of these.
    """

    axes: ops.GateAxes

    def __init__(
        self,
        num_segments: Optional[int] = None,
        norm_cfg: Dict[str, Any] = dict(type='BN3d'),
        impl: str = 'auto',
        init: str = 'paper',
    ) -> None:
        super().__init__()
        if init not in INITS:
            raise ValueError(
                f'{type(self).__name__}: expected init to be one of '
                f'{", ".join(INITS)}, got {init!r}.'
            )
        if num_segments is not None and (
            not isinstance(num_segments, int) or num_segments < 1
        ):
            raise ValueError(
                f'{type(self).__name__}: expected num_segments to be a '
                f'positive int, the frames per clip, got {num_segments!r}.'
            )
        self.num_segments = num_segments
        # The object's, too, as Dynamo of torch 2.4 reads no tuples of classes.
        self.axes = self.axes
        self.impl = ops.requested_impl(impl)
        self.init = init
        self._path: Optional[str] = None
        for axis in ops.AXES:
            if axis in self.axes.all():
                is_outer = self.axes.inner != '' and axis in self.axes.outer
                gate = ContextGate(axis, is_outer, norm_cfg)
                self.add_module(f'gate_{axis.lower()}', gate)
        self._open_gates()

    def init_weights(self) -> None:
        """Initialise each gate as an inner, lone or outer one."""
        for gate in self.children():
            gate.init_weights()  # type: ignore[operator]
        self._open_gates()

    def _open_gates(self) -> None:
        if self.init == 'identity':
            for axis in self.axes.outer:
                getattr(self, f'gate_{axis.lower()}').open()

    def forward(self, x: Tensor, activation: Optional[nn.Module] = None) -> Tensor:
        """Reweight a feature map.

        Args:
            x (Tensor): ``[N, C, T, H, W]``, or ``[N * T, C, H, W]`` with
                ``T = num_segments``; any floating-point dtype.
            activation (nn.Module, optional): What the output goes through.
                An ``nn.ReLU`` costs nothing, except on the reference path.
                One that works in place may overwrite ``x`` where no gradients
                are needed. Defaults to None.

        Returns:
            Tensor: Same shape.

        Raises:
            TypeError: If ``x`` is not floating-point.
            ValueError: If ``x`` is not 4-D or 5-D, or is 4-D and its first
                size is not a multiple of ``num_segments``.
            RuntimeError: If ``impl`` names a path that cannot run.
        """
        self._check_input(x)
        gates = self._gates()
        path, refused = ops.choose(self.impl, x, self.axes, gates, self.num_segments)
        self._log(path, refused)
        return ops.attention(x, path, self.axes, gates, self.num_segments, activation)

    def _gates(self) -> Dict[str, ops.GateModule]:
        """Each axis's gate."""
        return {
            axis: ops.read_gate(self._modules[f'gate_{axis.lower()}'])
            for axis in self.axes.all()
        }

    def _log(self, path: str, refused: List[str]) -> None:
        if ops.is_compiling() or path == self._path:
            return
        self._path = path
        line = f'{type(self).__name__}: impl={self.impl!r} takes {path}'
        if refused:
            line += f' ({"; ".join(refused)})'
        print_log(line, logger='current', level=logging.DEBUG)

    def _check_input(self, x: Tensor) -> None:
        name = type(self).__name__
        if not x.is_floating_point():
            raise TypeError(
                f'{name}: expected a floating-point feature map, got '
                f'{x.dtype}. Convert it first, e.g. with x.float().'
            )
        if x.dim() == 5:
            return
        if x.dim() != 4:
            raise ValueError(
                f'{name}: expected features [N, C, T, H, W] or '
                f'[N * num_segments, C, H, W], got {x.dim()}-D features of '
                f'shape {tuple(x.shape)}. Keep the axes apart until after '
                'the attention.'
            )
        if self.num_segments is None:
            raise ValueError(
                f'{name}: expected num_segments for 4-D features '
                f'{tuple(x.shape)}, whose first axis holds the frames of '
                f"all clips, got None. Set it: dict(type='{name}', "
                'num_segments=8).'
            )
        check_whole_clips(x, self.num_segments, self)

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        text = f'num_segments={self.num_segments}, impl={self.impl!r}'
        return text if self.init == 'paper' else f'{text}, init={self.init!r}'


@MODELS.register_module()
class ChannelContext(ContextAttention):
    """C: single channel-context attention."""

    axes = ops.LAYERS['ChannelContext']


@MODELS.register_module()
class SpatioTemporalContext(ContextAttention):
    """ST: single spatio-temporal attention, the mean of three gates."""

    axes = ops.LAYERS['SpatioTemporalContext']


@MODELS.register_module()
class CinST(ContextAttention):
    """CinST: channel attention inside spatio-temporal attention.

    The authors' code initialises its H convolution twice and leaves W at
    PyTorch's default; here all three outer gates start Xavier-normal.
    """

    axes = ops.LAYERS['CinST']


@MODELS.register_module()
class STinC(ContextAttention):
    """STinC: spatio-temporal attention inside channel attention."""

    axes = ops.LAYERS['STinC']
