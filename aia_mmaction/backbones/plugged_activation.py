from typing import List, Tuple

from mmcv.cnn import ConvModule
from torch import Tensor, nn


class PluggedActivation(nn.Module):
    """A ConvModule's activation with attention layers before and after it.

    This puts a layer between norm and activation without renaming a parameter
    of MMAction2, so plain and AIA checkpoints stay exchangeable. A layer built
    of ConvModules would not do: MMAction2's ImageNet loading looks the name of
    every ConvModule up in the file.

    Args:
        activation (nn.Module): The ConvModule's own activation, or an
            ``nn.Identity`` where it has none.
    """

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.after_norm = nn.Sequential()
        self.activation = activation
        self.after_conv = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        return self.after_conv(self.activation(self.after_norm(x)))


def plug(conv_module: ConvModule) -> PluggedActivation:
    """Make room for layers in a ConvModule, unless there is room already."""
    if not conv_module.with_activation:
        conv_module.activate = nn.Identity()
        conv_module.with_activation = True
        # ConvModule.init_weights looks into act_cfg of an active activation.
        conv_module.act_cfg = dict(type='Identity')
    if not isinstance(conv_module.activate, PluggedActivation):
        conv_module.activate = PluggedActivation(conv_module.activate)
    return conv_module.activate


def attention_layers(model: nn.Module) -> List[Tuple[str, nn.Module]]:
    """Name and module of every layer that was inserted into ``model``."""
    return [(f'{name}.{place}.{i}', layer)
            for name, plugged in model.named_modules()
            if isinstance(plugged, PluggedActivation)
            for place in ('after_norm', 'after_conv')
            for i, layer in enumerate(getattr(plugged, place))]
