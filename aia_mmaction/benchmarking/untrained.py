"""Networks of a config, with and without attention, to be measured."""

import copy
from typing import Any

from mmaction.registry import MODELS
from torch import nn

from aia_mmaction.plugins import attention_layers
from aia_mmaction.utils.config import type_name


def forget_pretrained(backbone: dict) -> None:
    """Have a backbone's config ask for no pretrained weights, in place."""
    if 'pretrained' in backbone:
        backbone['pretrained'] = None
    if 'TSM' in type_name(backbone):
        backbone['pretrained2d'] = False  # or it wants a file


def build_untrained(cfg: Any, plain: bool = False) -> nn.Module:
    """A config's recognizer, without downloading pretrained weights.

    Args:
        cfg (Config): A config with a recognizer.
        plain (bool): Whether to leave its attention out. Defaults to False.

    Raises:
        ValueError: If it has no attention.
    """
    model = copy.deepcopy(cfg.model)
    backbone = model.backbone
    forget_pretrained(backbone)
    owner = model if type_name(model) == 'AIARecognizer2D' else backbone
    if not plain:
        built = MODELS.build(model)
        if not attention_layers(built):
            raise ValueError(
                f'{cfg.filename}: expected a network with attention, got '
                f'{type_name(model)} with {type_name(backbone)}. Set type and '
                'plugins of its backbone as the README says.'
            )
        return built
    owner.plugins = []
    return MODELS.build(model)
