"""What a backbone with attention does differently from MMAction2's.

It is attached to the object, so that it holds for the registered backbones and
for any other model alike.
"""

import copy
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Dict, Optional, Set, Tuple, cast

from mmengine.logging import print_log
from torch import nn

from aia_mmaction.layers.attention import check_whole_clips
from aia_mmaction.ops import is_compiling

from .slots import attention_layers, restore_hooks, unused_slots


class WithAttention(nn.Module if TYPE_CHECKING else object):  # type: ignore[misc]
    """Mixin of the class that :func:`attach_behaviour` gives a backbone.

    Not methods on the instance, which would keep the model in a reference
    cycle: deleted, it would keep its memory until the garbage collector runs.
    """

    plain_class: type  # that of the backbone before
    # Of the last checkpoint; None if there was none
    missing_attention: Optional[Set[str]]

    def init_weights(self, *args: Any, **kwargs: Any) -> None:
        """Initialise the backbone and leave the attention its own weights."""
        layers = attention_layers(self)
        initial = [copy.deepcopy(layer.state_dict()) for _, layer in layers]
        self.missing_attention = None
        # Some of MMAction2's backbones load ImageNet weights strictly.
        self.may_miss_attention = True
        try:
            if hasattr(super(), 'init_weights'):  # torchvision has none
                super().init_weights(*args, **kwargs)
        finally:
            self.may_miss_attention = False
        # 3-D networks re-initialise every Conv3d below them. What a checkpoint
        # did not bring gets its initial value again.
        missing = self.missing_attention
        for (name, layer), state in zip(layers, initial):
            for key, tensor in layer.state_dict().items():
                if missing is None or f'{name}.{key}' in missing:
                    tensor.copy_(state[key])

    def get(self, name: str, default: Any = None) -> Any:
        """What ``Recognizer2D`` asks its backbone for ``max_testing_views``."""
        return getattr(self, name, default)

    def train(self, mode: bool = True) -> Any:
        """Set the mode; the loops do it before their first iteration.

        ``norm_eval``, and ``bn_frozen`` of CSN, keep the norms of a pretrained
        network as they are. Those of the attention have nothing to keep: they
        learn, unless their stage is frozen.
        """
        restore_hooks(self)
        layers = [layer for _, layer in attention_layers(self)]
        learned = [[p.requires_grad for p in layer.parameters()] for layer in layers]
        super().train(mode)
        for layer, learns in zip(layers, learned):
            parameters = list(layer.parameters())
            if any(p.requires_grad for p in parameters):  # not of a frozen stage
                layer.train(mode)
                for parameter, requires_grad in zip(parameters, learns):
                    parameter.requires_grad_(requires_grad)
        return self  # MMAction2's ResNet returns None

    def __reduce_ex__(self, protocol: Any) -> Tuple[Any, ...]:
        # Pickle looks for a class by its name, which finds the plain one.
        _, _, *state = cast(Tuple[Any, ...], super().__reduce_ex__(protocol))
        return (_new, (self.plain_class,), *state)


@lru_cache(maxsize=None)
def _class_with_attention(plain: Any) -> type:
    members = dict(
        plain_class=plain, __module__=plain.__module__, __qualname__=plain.__qualname__
    )
    return type(plain.__name__, (WithAttention, plain), members)


def _new(plain: Any) -> Any:
    backbone = plain.__new__(plain)
    backbone.__class__ = _class_with_attention(plain)
    return backbone


def attach_behaviour(backbone: Any) -> None:
    """Attach all of it, once per backbone."""
    backbone.__class__ = _class_with_attention(type(backbone))  # type: ignore[arg-type]
    backbone.register_forward_pre_hook(_check_input)
    backbone.register_forward_hook(_warn_of_unused_attention)
    if hasattr(backbone, 'register_load_state_dict_pre_hook'):
        backbone.register_load_state_dict_pre_hook(_note_prefix)
    else:  # torch < 2.5
        backbone._register_load_state_dict_pre_hook(_note_prefix, with_module=True)
    backbone.register_load_state_dict_post_hook(_log_missing_attention)


def _check_input(backbone: nn.Module, args: Tuple[Any, ...]) -> None:
    # Not left to the attention: ResNetTSM and C2D reshape before it.
    num_segments = getattr(backbone, 'num_segments', None)
    for x in args:  # none if it is passed by name
        check_whole_clips(x, num_segments, backbone)
        if x.dim() == 5 and num_segments not in (None, x.shape[2]):
            raise ValueError(
                f'{type(backbone).__name__}: expected clips of num_segments='
                f'{num_segments} frames, got {x.shape[2]} in {list(x.shape)}. Give '
                'clip_len of the pipeline and num_segments of the backbone the same '
                'value.'
            )


def _warn_of_unused_attention(
    backbone: Any, args: Tuple[Any, ...], output: Any
) -> None:
    """Once, for networks whose forward pass goes other ways than their blocks."""
    if is_compiling() or getattr(backbone, 'attention_was_checked', False):
        return
    backbone.attention_was_checked = True
    unused = unused_slots(backbone)
    if unused:
        print_log(
            f'{type(backbone).__name__}: expected every inserted attention layer '
            f'to be called, got {len(unused)} that were not: {", ".join(unused[:4])}'
            f'{", ..." if len(unused) > 4 else ""}. They change nothing. Leave '
            'these blocks out by stages= or blocks= of the plugins.',
            logger='current',
            level=logging.WARNING,
        )


def _note_prefix(
    backbone: Any, state_dict: Dict[str, Any], prefix: str, *args: Any
) -> None:
    backbone.prefix_when_loaded = prefix


def _log_missing_attention(backbone: Any, incompatible_keys: Any) -> None:
    """Say in one line that a plain checkpoint came without attention."""
    keys = {key for key in backbone.state_dict() if 'num_batches_tracked' not in key}
    own = {
        f'{name}.{key}'
        for name, layer in attention_layers(backbone)
        for key in layer.state_dict()
    } & keys
    # Missing keys are of all the model that the backbone is part of.
    prefix, missing = backbone.prefix_when_loaded, incompatible_keys.missing_keys
    of_backbone = {k[len(prefix) :] for k in missing if k.startswith(prefix)} & keys
    absent, others = of_backbone & own, of_backbone - own
    backbone.missing_attention = absent
    if getattr(backbone, 'may_miss_attention', False):
        missing[:] = [key for key in missing if key[len(prefix) :] not in absent]
    if absent:
        print_log(
            f'{type(backbone).__name__}: {len(absent)} of {len(own)} keys of '
            'the attention are not in the checkpoint and keep their initial '
            f'values; {len(others)} other keys of the backbone are missing.',
            logger='current',
        )
