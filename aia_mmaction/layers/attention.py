"""The four attention layers of the paper (arXiv 2204.09303, section III)."""

import logging
from typing import Callable, List, Optional, cast

import torch
from mmaction.registry import MODELS
from mmengine.logging import print_log
from torch import Tensor, nn

from aia_mmaction import ops

from .context_gate import ContextGate


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

    A layer says which axes have an outer gate, which multiplies the input,
    and which an inner one, which refines what the outer ones see; the gates
    are its children ``gate_c``, ``gate_t``, ``gate_h`` and ``gate_w``, as far
    as it has them. Its ``function`` of :mod:`aia_mmaction.ops.reference` is
    their definition.

    Args:
        num_segments (int, optional): Frames per clip, needed for the 4-D
            input of 2-D networks, where frames are folded into the batch.
            5-D input needs none. Defaults to None.
        norm_cfg (dict): Config of the gates' norm over one channel.
            Defaults to ``dict(type='BN3d')``.
        impl (str): What computes it: ``'reference'``, ``'fused'``,
            ``'compiled'``, ``'triton'``, or ``'auto'`` for the fastest that
            can (:mod:`aia_mmaction.ops.dispatch`). The environment variable
            ``AIA_MMACTION_IMPL`` replaces it. Defaults to ``'auto'``.
    """

    inner: str = ''
    outer: str
    function: Callable[..., Tensor]

    def __init__(
        self,
        num_segments: Optional[int] = None,
        norm_cfg: dict = dict(type='BN3d'),
        impl: str = 'auto',
    ) -> None:
        super().__init__()
        if num_segments is not None and (
            not isinstance(num_segments, int) or num_segments < 1
        ):
            raise ValueError(
                f'{type(self).__name__}: expected num_segments to be a '
                f'positive int, the frames per clip, got {num_segments!r}.'
            )
        self.num_segments = num_segments
        self.impl = ops.requested_impl(impl)
        self._path: Optional[str] = None
        nested = self.inner != ''
        for axis in ops.AXES:
            if axis in self.inner + self.outer:
                gate = ContextGate(axis, nested and axis in self.outer, norm_cfg)
                self.add_module(f'gate_{axis.lower()}', gate)

    def init_weights(self) -> None:
        """Initialise each gate as an inner, lone or outer one."""
        for gate in self._gates():
            gate.init_weights()

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
        clips = ops.to_clips(x, self.num_segments or 0)
        path, refused = ops.choose(self.impl, clips, self._gates())
        self._log(path, refused)
        if path != 'reference':
            return self._by_operator(x, clips.shape, path, activation)
        out = ops.from_clips(self._by_reference(clips), x)
        return out if activation is None else activation(out)

    def _gates(self) -> List[ContextGate]:
        """In the order of :data:`.ops.AXES`."""
        return cast(List[ContextGate], list(self.children()))

    def _by_reference(self, x: Tensor) -> Tensor:
        """The layer as it is defined."""
        gates = self._gates()
        if x.dtype != torch.float16 or gates[0].conv.weight.dtype == x.dtype:
            return self.function(x, *gates)
        # Autocast to float16, gradients times x would overflow.
        with torch.autocast(x.device.type, enabled=False):
            return self.function(x.float(), *gates).to(x.dtype)

    def _by_operator(
        self, x: Tensor, shape: torch.Size, path: str, activation: Optional[nn.Module]
    ) -> Tensor:
        """The layer as one operator, with the weights of its gates."""
        gates = [
            getattr(self, f'gate_{axis.lower()}') for axis in self.inner + self.outer
        ]
        norms = [gate.norm for gate in gates]
        batch_stats = ops.uses_batch_stats(norms[0])
        stats = None
        if not batch_stats:
            running = [t for n in norms for t in (n.running_mean, n.running_var)]
            stats = torch.cat(running).view(-1, 2)
        parameters = [
            torch.cat(tensors)
            for tensors in (
                [g.conv.weight for g in gates],
                [n.weight for n in norms],
                [n.bias for n in norms],
            )
        ]
        keep = torch.is_grad_enabled() and any(
            t.requires_grad for t in (x, *parameters)
        )
        relu = type(activation) is nn.ReLU and not ops.has_hooks(activation)
        args = (
            x,
            *parameters,
            stats,
            norms[0].eps,
            self.inner,
            self.outer,
            self.num_segments or 0,
            relu,
        )
        if (
            getattr(activation, 'inplace', False)
            and not keep
            and not ops.is_compiling()
        ):
            out, used = x, ops.attention_(*args, path)
        else:
            out, used, _, _ = ops.attention(*args, keep, path)
        if batch_stats:
            for gate, gate_stats in zip(gates, used):
                gate.track(gate_stats, shape)
        return out if relu or activation is None else activation(out)

    def _log(self, path: str, refused: List[str]) -> None:
        if ops.is_compiling() or path == self._path:
            return
        self._path = path
        print_log(
            f'{type(self).__name__}: impl={self.impl!r} takes {path}'
            + f' ({"; ".join(refused)})' * bool(refused),
            logger='current',
            level=logging.DEBUG,
        )

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
        return f'num_segments={self.num_segments}, impl={self.impl!r}'


@MODELS.register_module()
class ChannelContext(ContextAttention):
    """C: single channel-context attention."""

    outer = 'C'
    function = staticmethod(ops.channel_context)


@MODELS.register_module()
class SpatioTemporalContext(ContextAttention):
    """ST: single spatio-temporal attention, the mean of three gates."""

    outer = 'THW'
    function = staticmethod(ops.spatiotemporal_context)


@MODELS.register_module()
class CinST(ContextAttention):
    """CinST: channel attention inside spatio-temporal attention.

    The authors' code initialises its H convolution twice and leaves W at
    PyTorch's default; here all three outer gates start Xavier-normal.
    """

    inner, outer = 'C', 'THW'
    function = staticmethod(ops.cinst)


@MODELS.register_module()
class STinC(ContextAttention):
    """STinC: spatio-temporal attention inside channel attention."""

    inner, outer = 'THW', 'C'
    function = staticmethod(ops.stinc)
