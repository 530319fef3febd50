from typing import Any, Dict, Optional, Sequence, cast

from mmaction.registry import MODELS
from torch import Tensor, nn


def build_layer(cfg: Dict[str, Any]) -> nn.Module:
    """Build an attention layer, whatever the default scope is.

    Raises:
        TypeError: If the config has options that the layer does not.
    """
    try:
        layer = MODELS.build({'_scope_': 'mmaction', **cfg})
    except TypeError as error:
        raise TypeError(
            f'Expected an attention layer with its options, got {cfg}: '
            f'{error}. Attention layers take num_segments, norm_cfg and impl.'
        ) from error
    return cast(nn.Module, layer)


@MODELS.register_module()
class ParallelAttention(nn.Module):
    """The mean of its branches' outputs.

    The paper's C+ST and CinST+STinC (arXiv 2204.09303, Table I) are two
    branches each.

    Args:
        branches (Sequence[dict]): Configs of the attention layers.
        num_segments (int, optional): Frames per clip, handed to every branch
            that does not set its own. Defaults to None.
        impl (str): Likewise. Defaults to ``'auto'``.

    Raises:
        ValueError: If there are no branches.
    """

    def __init__(
        self,
        branches: Sequence[Dict[str, Any]],
        num_segments: Optional[int] = None,
        impl: str = 'auto',
    ) -> None:
        super().__init__()
        if len(branches) == 0:
            raise ValueError(
                'ParallelAttention: expected at least one branch, got none. '
                "Set branches=[dict(type='CinST'), dict(type='STinC')]."
            )
        self.branches = nn.ModuleList(
            build_layer({'num_segments': num_segments, 'impl': impl, **branch})
            for branch in branches
        )

    def init_weights(self) -> None:
        """Initialise each branch in its own way."""
        for branch in self.branches:
            branch.init_weights()  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, T, H, W]`` or ``[N * T, C, H, W]`` to the same shape."""
        outputs = [branch(x) for branch in self.branches]
        return cast(Tensor, sum(outputs) / len(outputs))
