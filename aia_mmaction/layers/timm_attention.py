from typing import Any, cast

from mmaction.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class TimmAttention(nn.Module):
    """One of timm's attention layers, frame by frame.

    Args:
        attn_type (str): What timm's factory, ``timm.layers.get_attn``, calls it:
            ``'se'``, ``'cbam'``, ``'eca'``, ``'gc'``, ``'nl'`` and others.
        in_channels (int): Channels of the feature map.
        **kwargs: Arguments of timm's layer, such as ``rd_ratio``.

    Raises:
        ImportError: If timm cannot be imported.
        ValueError: If timm does not know ``attn_type``.
    """

    def __init__(self, attn_type: str, in_channels: int, **kwargs: Any) -> None:
        super().__init__()
        try:
            from timm.layers import get_attn
        except Exception as error:  # torchvision's, too, of other kinds
            raise ImportError(
                'TimmAttention: expected timm and a torchvision that fits '
                f'PyTorch, got {type(error).__name__}: {error}. Install them: '
                'docs/backbones.md.'
            ) from error
        try:
            attention_class = get_attn(attn_type)
        except AssertionError:
            attention_class = None
        if attention_class is None:  # as timm answers to '' and None
            raise ValueError(
                "TimmAttention: expected an attn_type that timm knows, such as 'se', "
                f"'cbam', 'eca', 'gc' or 'nl', got {attn_type!r}."
            )
        self.attention = attention_class(in_channels, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, T, H, W]`` or ``[N * T, C, H, W]`` to the same shape."""
        if x.dim() == 4:
            return cast(Tensor, self.attention(x))
        # [N, C, T, H, W] -> [N * T, C, H, W] -> [N, C, T, H, W]
        frames = x.transpose(1, 2).flatten(0, 1)
        y = self.attention(frames)
        return cast(Tensor, y.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2))
