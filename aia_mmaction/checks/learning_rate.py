"""Schedules that undo a learning rate of the attention's own."""

from typing import Optional

from mmengine.config import Config

from aia_mmaction.utils.config import type_name


def lost_multiplier(cfg: Config) -> Optional[str]:
    """Why ``attention_lr_mult`` reaches nothing, or None.

    Args:
        cfg (Config): The config of a run.
    """
    optim_wrapper = cfg.get('optim_wrapper') or {}
    options = optim_wrapper.get('paramwise_cfg') or {}
    schedulers = cfg.get('param_scheduler') or []
    if isinstance(schedulers, dict):
        schedulers = [schedulers]
    one_cycle = [name for name in map(type_name, schedulers) if 'OneCycle' in name]
    if options.get('attention_lr_mult', 1) == 1 or not one_cycle:
        return None
    return (
        f'attention_lr_mult={options["attention_lr_mult"]}: expected schedules that '
        f'change the rates they find, got {one_cycle[0]}, which gives all parameters '
        'its eta_max. Use LinearLR and CosineAnnealingLR, as '
        'configs/_base_/schedules/adamw_12e.py does.'
    )
