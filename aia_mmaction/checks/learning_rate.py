"""What undoes a learning rate of the attention's own."""

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
    multiplier = options.get('attention_lr_mult', 1)
    constructor = type_name(
        dict(type=optim_wrapper.get('constructor', 'DefaultOptimWrapperConstructor'))
    )
    if multiplier != 1 and constructor != 'AIAOptimWrapperConstructor':
        return (
            f'attention_lr_mult={multiplier}: expected it with constructor='
            f"'AIAOptimWrapperConstructor' in optim_wrapper, got {constructor}, which "
            'does not know it. Name the other one in paramwise_cfg (docs/training.md).'
        )
    one_cycle = [name for name in map(type_name, schedulers) if 'OneCycle' in name]
    if multiplier == 1 or not one_cycle:
        return None
    return (
        f'attention_lr_mult={multiplier}: expected schedules that '
        f'change the rates they find, got {one_cycle[0]}, which gives all parameters '
        'its eta_max. Use LinearLR and CosineAnnealingLR, as '
        'configs/_base_/schedules/adamw_12e.py does.'
    )
