"""Slots: modules in a block that attention layers are put into.

A *host* has them: a norm, or the module of a norm and its activation.

None of them renames a parameter of MMAction2, so plain and AIA checkpoints
stay exchangeable.
"""

from typing import Any, List, Tuple, cast

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from aia_mmaction.layers import ContextAttention
from aia_mmaction.ops import has_hooks, is_compiling


class AttentionLayers(nn.Sequential):
    """A slot, known by this class: other networks have children called
    ``after_norm``, too.
    """

    was_called = False

    def forward(self, x: Tensor) -> Tensor:
        """Layer after layer."""
        self.note_call()
        for layer in self:
            x = layer(x)
        return x

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
        if self._last_layer_activates():
            self.after_norm.note_call()
            *layers, last = self.after_norm
            for layer in layers:
                x = layer(x)
            x = last(x, self.activation)
        else:
            x = self.activation(self.after_norm(x))
        return cast(Tensor, self.after_conv(x))

    def _last_layer_activates(self) -> bool:
        if len(self.after_norm) == 0 or has_hooks(self.after_norm):
            return False
        last = self.after_norm[-1]
        # A hook of the last layer sees what comes out of it alone.
        return isinstance(last, ContextAttention) and not has_hooks(last)


def has_activation(host: nn.Module) -> bool:
    """Whether a host is a norm together with its activation.

    It is in a ConvModule of mmcv, a MobileOneBlock of mmpretrain and a
    BatchNormAct2d of timm. Other norms stand alone.
    """
    return isinstance(host, ConvModule) or hasattr(host, 'act')


def with_slots(host: nn.Module) -> nn.Module:
    """Give a host its slots, unless it has them.

    Returns:
        nn.Module: What has ``after_norm`` and, where there is an activation,
        ``after_conv`` for layers to be appended to.
    """
    if isinstance(host, ConvModule):
        if not host.with_activation:
            host.activate = nn.Identity()
            host.with_activation = True
            # ConvModule.init_weights looks into act_cfg of an active
            # activation.
            host.act_cfg = dict(type='Identity')
        name = 'activate'
    elif has_activation(host):
        name = 'act'
    else:
        if not hasattr(host, 'after_norm'):
            host.after_norm = AttentionLayers()
            host.register_forward_hook(_attend)
        return host
    if not isinstance(getattr(host, name), PluggedActivation):
        setattr(host, name, PluggedActivation(getattr(host, name)))
    return cast(nn.Module, getattr(host, name))


def _attend(norm: Any, args: Tuple[Any, ...], output: Tensor) -> Tensor:
    return cast(Tensor, norm.after_norm(output))


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
        for name, slot in model.named_modules()
        if isinstance(slot, AttentionLayers) and len(slot) and not slot.was_called
    ]


def attention_layers(model: nn.Module) -> List[Tuple[str, nn.Module]]:
    """Name and module of every layer that was inserted into ``model``."""
    return [
        (f'{name}.{i}', layer)
        for name, slot in model.named_modules()
        if isinstance(slot, AttentionLayers)
        for i, layer in enumerate(slot)
    ]
