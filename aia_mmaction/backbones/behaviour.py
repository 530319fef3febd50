"""What a backbone with attention does differently from MMAction2's.

It is attached to the instance, so that it holds for the registered backbones
and for any model object alike. Partials of functions on module level survive
copying and pickling.
"""

import copy
import logging
from functools import partial
from typing import Any

from mmengine.logging import print_log
from torch import nn

from aia_mmaction.layers.attention import check_whole_clips
from aia_mmaction.ops import is_compiling

from .num_segments import check_num_segments
from .places import attention_layers, restore_hooks, unused_places


def attach_behaviour(backbone: Any) -> None:
    """Attach all of it, once per backbone."""
    backbone.init_weights = partial(_init_weights, backbone)
    backbone.train = partial(_train, backbone)
    if not hasattr(backbone, 'get'):  # Recognizer2D with max_testing_views
        backbone.get = partial(_get, backbone)
    backbone.register_forward_pre_hook(_check_input)
    backbone.register_forward_hook(_warn_of_unused_attention)
    backbone.register_load_state_dict_post_hook(_log_missing_attention)


def _init_weights(backbone: Any, *args, **kwargs) -> None:
    """Initialise the backbone and leave the attention its own weights."""
    # In training this comes before a resumed run brings its own config.
    check_num_segments(backbone, training=True)
    layers = attention_layers(backbone)
    initial = [copy.deepcopy(layer.state_dict()) for _, layer in layers]
    backbone.missing_attention = None
    # Some of MMAction2's backbones load ImageNet weights strictly.
    backbone.may_miss_attention = True
    try:
        if hasattr(type(backbone), 'init_weights'):  # torchvision has none
            type(backbone).init_weights(backbone, *args, **kwargs)
    finally:
        backbone.may_miss_attention = False
    # 3-D networks re-initialise every Conv3d below them. What a checkpoint did
    # not bring gets its initial value again.
    missing = backbone.missing_attention
    for (name, layer), state in zip(layers, initial):
        if missing is not None:
            state = {k: v for k, v in state.items() if f'{name}.{k}' in missing}
        layer.load_state_dict(state, strict=False)


def _get(backbone: nn.Module, name: str) -> Any:
    return getattr(backbone, name, None)


def _train(backbone: Any, mode: bool = True) -> nn.Module:
    """Set the mode; the loops do it before their first iteration."""
    check_num_segments(backbone, training=mode)
    restore_hooks(backbone)
    type(backbone).train(backbone, mode)
    return backbone  # MMAction2's ResNet returns None


def _check_input(backbone: nn.Module, args: tuple) -> None:
    # Not left to the attention: ResNetTSM reshapes before it.
    for x in args:  # none if it is passed by name
        check_whole_clips(x, getattr(backbone, 'num_segments', None), backbone)


def _warn_of_unused_attention(backbone: Any, args: tuple, output: Any) -> None:
    """Once, for networks whose forward pass goes other ways than their blocks."""
    if is_compiling() or getattr(backbone, 'attention_was_checked', False):
        return
    backbone.attention_was_checked = True
    unused = unused_places(backbone)
    if unused:
        print_log(
            f'{type(backbone).__name__}: expected every inserted attention layer '
            f'to be called, got {len(unused)} that were not: {", ".join(unused[:4])}'
            f'{", ..." if len(unused) > 4 else ""}. They change nothing. Leave '
            'these blocks out by stages= or blocks= of the plugins.',
            logger='current',
            level=logging.WARNING,
        )


def _log_missing_attention(backbone: Any, incompatible_keys) -> None:
    """Say in one line that a plain checkpoint came without attention."""
    keys = {key for key in backbone.state_dict() if 'num_batches_tracked' not in key}
    own = {
        f'{name}.{key}'
        for name, layer in attention_layers(backbone)
        for key in layer.state_dict()
    } & keys
    # Missing keys carry the prefix of the model that the backbone is part of,
    # and some are of its other parts.
    missing = incompatible_keys.missing_keys
    absent = [key for key in missing if key.endswith(tuple(own))]
    others = [key for key in missing if key.endswith(tuple(keys - own))]
    backbone.missing_attention = absent
    if getattr(backbone, 'may_miss_attention', False):
        missing[:] = [key for key in missing if key not in absent]
    if absent:
        print_log(
            f'{type(backbone).__name__}: {len(absent)} of {len(own)} keys of '
            'the attention are not in the checkpoint and keep their initial '
            f'values; {len(others)} other keys of the backbone are missing.',
            logger='current',
        )
