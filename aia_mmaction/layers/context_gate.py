from typing import Any, Callable, Dict, cast

from mmcv.cnn import build_norm_layer
from mmengine.model import constant_init, kaiming_init, xavier_init
from torch import Tensor, nn

from aia_mmaction.ops import AXES, context_gate

# The sigmoid of it is 0.982: near to 1, and with a slope left to learn by.
OPEN_LOGIT = 4.0


class ContextGate(nn.Module):
    """The gate of one axis: pool, 2 -> 1 convolution, norm, sigmoid.

    Source: arXiv 2204.09303, section III. The weights live in an
    ``nn.Conv3d`` and a norm layer, whatever computes with them, because
    MMAction2's ``TSMOptimWrapperConstructor`` knows no other owners.

    Args:
        axis (str): The axis the gate is for: ``'C'``, ``'T'``, ``'H'`` or
            ``'W'``.
        outer (bool): Whether the gate is the outer one of a nested pair, which
            starts Xavier-normal; inner and lone gates start Kaiming-normal
            (fan-out).
        norm_cfg (dict): Config of the norm over the gate's single channel.
    """

    def __init__(self, axis: str, outer: bool, norm_cfg: Dict[str, Any]) -> None:
        super().__init__()
        assert axis in AXES, axis
        self.axis = axis
        self.outer = outer
        self.conv = nn.Conv3d(2, 1, kernel_size=3, padding=1, bias=False)
        self.norm = build_norm_layer(norm_cfg, 1)[1]
        self.init_weights()

    def init_weights(self) -> None:
        """Kaiming-normal or, as an outer gate, Xavier-normal; norm of 1 and 0."""
        init = xavier_init if self.outer else kaiming_init
        init(self.conv, distribution='normal')
        constant_init(self.norm, val=1, bias=0)

    def open(self) -> None:
        """Have the gate start near 1 for most of what it sees.

        Only the norm's bias changes: a weight of 0, which would have it exactly the
        same everywhere, hides from the convolution what it should learn.

        Raises:
            ValueError: If the norm has no bias.
        """
        if getattr(self.norm, 'bias', None) is None:
            raise ValueError(
                "init='identity': expected a norm with weight and bias, got "
                f'{self.norm}. Set affine=True in norm_cfg.'
            )
        nn.init.constant_(self.norm.bias, OPEN_LOGIT)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, T, H, W]`` to the same shape with size 1 at the axis."""
        return context_gate(x, self.axis, self.conv, self.norm)

    def _apply(
        self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any
    ) -> nn.Module:
        # Module.to asks channels_last, which is for 4-D tensors, of all 4-D
        # and 5-D ones. Three axes are asked nothing.
        def of_three_axes(t: Tensor) -> Tensor:
            # [1, 2, 3, 3, 3] -> [1, 2, 27] -> [1, 2, 3, 3, 3]
            return fn(t.flatten(2)).view(t.shape) if t.dim() == 5 else fn(t)

        return cast(nn.Module, super()._apply(of_three_axes, *args, **kwargs))
