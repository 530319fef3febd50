"""Places in a block that attention layers are put into.

None of them renames a parameter of MMAction2, so plain and AIA checkpoints
stay exchangeable.
"""

from typing import Any, List, Tuple

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from aia_mmaction.layers import ContextAttention
from aia_mmaction.ops import has_hooks, is_compiling


class AttentionLayers(nn.Sequential):
    """The layers that were inserted at one place, known by this class: other
    networks have children called ``after_norm``, too.
    """

    was_called = False

    def forward(self, x: Tensor) -> Tensor:
        """Layer after layer."""
        self.note_call()
        return super().forward(x)

    def note_call(self) -> None:
        """Remember that what is inserted here has a part in the network."""
        if not is_compiling() and not self.was_called:
            self.was_called = True


class PluggedActivation(nn.Module):
    """An activation with attention layers before and after it.

    Layers built of ConvModules would not do: MMAction2's ImageNet loading
    looks the name of every ConvModule up in the file.

    Args:
        activation (nn.Module): The activation, or an ``nn.Identity`` where
            there is none.
    """

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.after_norm = AttentionLayers()
        self.activation = activation
        self.after_conv = AttentionLayers()

    def forward(self, x: Tensor) -> Tensor:
        """Attention after the norm, the activation, attention after that."""
        *layers, last = [*self.after_norm] or [None]
        # A hook of the last layer sees what comes out of it alone.
        if (
            not isinstance(last, ContextAttention)
            or has_hooks(last)
            or has_hooks(self.after_norm)
        ):
            return self.after_conv(self.activation(self.after_norm(x)))
        self.after_norm.note_call()
        for layer in layers:
            x = layer(x)
        return self.after_conv(last(x, self.activation))


def has_activation(place: nn.Module) -> bool:
    """Whether a place is a norm together with its activation.

    It is in a ConvModule of mmcv, a MobileOneBlock of mmpretrain and a
    BatchNormAct2d of timm. Other norms stand alone.
    """
    return isinstance(place, ConvModule) or hasattr(place, 'act')


def plug(place: nn.Module) -> nn.Module:
    """Make room for layers, unless there is room already.

    Returns:
        nn.Module: What has ``after_norm`` and, where there is an activation,
        ``after_conv`` for layers to be appended to.
    """
    if isinstance(place, ConvModule):
        if not place.with_activation:
            place.activate = nn.Identity()
            place.with_activation = True
            # ConvModule.init_weights looks into act_cfg of an active
            # activation.
            place.act_cfg = dict(type='Identity')
        name = 'activate'
    elif has_activation(place):
        name = 'act'
    else:
        if not hasattr(place, 'after_norm'):
            place.after_norm = AttentionLayers()
            place.register_forward_hook(_attend)
        return place
    if not isinstance(getattr(place, name), PluggedActivation):
        setattr(place, name, PluggedActivation(getattr(place, name)))
    return getattr(place, name)


def _attend(norm: Any, args: tuple, output: Tensor) -> Tensor:
    return norm.after_norm(output)


def restore_hooks(backbone: nn.Module) -> None:
    """Call the layers of plain norms again after a conversion to SyncBN.

    PyTorch's conversion makes new norms, and takes their children along but
    not their hooks.
    """
    for module in backbone.modules():
        if (
            isinstance(dict(module.named_children()).get('after_norm'), AttentionLayers)
            and not isinstance(module, PluggedActivation)
            and _attend not in module._forward_hooks.values()
        ):
            module.register_forward_hook(_attend)


def unused_slots(model: nn.Module) -> List[str]:
    """Where layers were inserted that no forward pass has called yet."""
    return [
        name
        for name, place in model.named_modules()
        if isinstance(place, AttentionLayers) and len(place) and not place.was_called
    ]


def attention_layers(model: nn.Module) -> List[Tuple[str, nn.Module]]:
    """Name and module of every layer that was inserted into ``model``."""
    return [
        (f'{name}.{i}', layer)
        for name, place in model.named_modules()
        if isinstance(place, AttentionLayers)
        for i, layer in enumerate(place)
    ]
