import inspect
from typing import Any, Collection, Dict, Optional, Sequence, cast

from mmaction.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn


def parameters_of(layer_type: Any) -> Collection[str]:
    """Names of the parameters of a layer's class, or of its registered name."""
    if isinstance(layer_type, str):
        layer_type = MODELS.get(layer_type)
    return inspect.signature(layer_type).parameters.keys()


def build_layer(
    cfg: Dict[str, Any],
    in_channels: Optional[int] = None,
    num_segments: Optional[int] = None,
) -> nn.Module:
    """Build a layer, whatever the default scope is.

    Args:
        cfg (dict): Of any layer that is registered in MODELS.
        in_channels (int, optional): Channels of the feature map. The layer is told
            if its signature has a parameter of this name. Defaults to None.
        num_segments (int, optional): Frames per clip, likewise. Defaults to None.

    Raises:
        TypeError: If the config has options that the layer does not, or it lacks
            one.
    """
    known = dict(in_channels=in_channels, num_segments=num_segments)
    takes = parameters_of(cfg['type'])
    told = {k: v for k, v in known.items() if v is not None and k in takes}
    try:
        layer = MODELS.build({'_scope_': 'mmaction', **cfg, **told})
    except TypeError as error:
        raise TypeError(
            f'Expected a layer with its options, got {cfg}: {error}. '
            f'{cfg["type"]} takes {", ".join(takes)}.'
        ) from error
    if isinstance(layer, BaseModule):
        layer.init_weights()  # what its init_cfg says, which it does not do when built
    return cast(nn.Module, layer)


@MODELS.register_module()
class ParallelAttention(nn.Module):
    """The mean of its branches' outputs.

    The paper's C+ST and CinST+STinC (arXiv 2204.09303, Table I) are two
    branches each.

    Args:
        branches (Sequence[dict]): Configs of the layers.
        num_segments (int, optional): Frames per clip, for branches that take it.
            Defaults to None.
        impl (str): What computes those branches that have it and do not say it
            themselves. Defaults to ``'auto'``.
        in_channels (int, optional): Channels of the feature map, for branches that
            take it. Defaults to None.

    Raises:
        ValueError: If there are no branches.
    """

    def __init__(
        self,
        branches: Sequence[Dict[str, Any]],
        num_segments: Optional[int] = None,
        impl: str = 'auto',
        in_channels: Optional[int] = None,
    ) -> None:
        super().__init__()
        if len(branches) == 0:
            raise ValueError(
                'ParallelAttention: expected at least one branch, got none. '
                "Set branches=[dict(type='CinST'), dict(type='STinC')]."
            )
        self.branches = nn.ModuleList(
            build_layer(_with_impl(branch, impl), in_channels, num_segments)
            for branch in branches
        )

    def init_weights(self) -> None:
        """Initialise each branch in its own way."""
        for branch in self.branches:
            if hasattr(branch, 'init_weights'):
                branch.init_weights()  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, T, H, W]`` or ``[N * T, C, H, W]`` to the same shape."""
        outputs = [branch(x) for branch in self.branches]
        return cast(Tensor, sum(outputs) / len(outputs))


def _with_impl(cfg: Dict[str, Any], impl: str) -> Dict[str, Any]:
    return {'impl': impl, **cfg} if 'impl' in parameters_of(cfg['type']) else cfg
