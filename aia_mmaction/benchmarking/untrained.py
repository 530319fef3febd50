"""Networks of a config, with and without attention, to be measured."""

import copy
from typing import Any

from mmaction.registry import MODELS
from torch import nn

from aia_mmaction.plugins import attention_layers
from aia_mmaction.utils.config import owner_of_plugins, type_name


def forget_pretrained(backbone: dict) -> None:
    """Have a backbone's config ask for no pretrained weights, in place."""
    if 'pretrained' in backbone:
        backbone['pretrained'] = None
    if 'TSM' in type_name(backbone):
        backbone['pretrained2d'] = False  # or it wants a file


def build_network(cfg: Any) -> nn.Module:
    """A config's recognizer as it is, without downloading pretrained weights."""
    model = copy.deepcopy(cfg.model)
    forget_pretrained(model.backbone)
    return MODELS.build(model)


def build_untrained(cfg: Any, plain: bool = False) -> nn.Module:
    """A config's recognizer with or without attention, otherwise the same.

    Args:
        cfg (Config): A config with a recognizer.
        plain (bool): Whether to leave its attention out. Defaults to False.

    Raises:
        ValueError: If it has no attention.
    """
    if plain:
        cfg = copy.deepcopy(cfg)
        owner_of_plugins(cfg.model).plugins = []
        return build_network(cfg)
    built = build_network(cfg)
    if not attention_layers(built):
        raise ValueError(
            f'{cfg.filename}: expected a network with attention, got '
            f'{type_name(cfg.model)} with {type_name(cfg.model.backbone)}. Set type '
            'and plugins of its backbone as the README says.'
        )
    return built
