"""Is num_segments one number in all the places of a config that name it?

Frames are folded into the batch of a 2-D network, so a wrong ``num_segments``
mixes frames of different clips without an error whenever it happens to divide
the batch.
"""
from typing import Iterator, Tuple

from mmengine.config import Config
from mmengine.logging import MessageHub
from torch import nn


def check_num_segments(backbone: nn.Module) -> None:
    """Compare a backbone's ``num_segments`` with the running config.

    Args:
        backbone (nn.Module): A backbone. Without ``num_segments`` there is
            nothing to compare.

    Raises:
        ValueError: If the head or a pipeline of the config that the current
            runner was built from says something else.
    """
    num_segments = getattr(backbone, 'num_segments', None)
    # MMEngine's RuntimeInfoHook leaves the config here before a run.
    text = MessageHub.get_current_instance().runtime_info.get('cfg')
    if (num_segments is None or text is None
            or getattr(backbone, 'checked_cfg', None) == hash(text)):
        return
    backbone.checked_cfg = hash(text)
    cfg = Config.fromstring(text, '.py')
    model = cfg.get('model') or {}
    backbone_cfg = model.get('backbone') or {}
    if (str(backbone_cfg.get('type')).split('.')[-1] != type(backbone).__name__
            or backbone_cfg.get('num_segments', num_segments) != num_segments):
        return  # The config of another model, trained earlier in this process.

    found = [('model.cls_head.num_segments',
              (model.get('cls_head') or {}).get('num_segments', num_segments))]
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        found += _frames_per_clip(cfg.get(loader), loader)
    wrong = [f'{n} in {where}' for where, n in found if n != num_segments]
    if wrong:
        raise ValueError(
            f'{type(backbone).__name__}: expected {num_segments} frames per '
            'clip everywhere, as in model.backbone.num_segments, got '
            f'{", ".join(wrong)}. Give num_clips of every pipeline and '
            'num_segments of backbone and head the same value.')


def _frames_per_clip(cfg, where: str) -> Iterator[Tuple[str, int]]:
    """Where a config samples frames, and how many of them per clip."""
    if isinstance(cfg, dict):
        name = str(cfg.get('type')).split('.')[-1]
        if 'Sample' in name and {'clip_len', 'num_clips'} & set(cfg):
            yield (f'{name} of {where}',
                   cfg.get('clip_len', 1) * cfg.get('num_clips', 1))
        for value in cfg.values():
            yield from _frames_per_clip(value, where)
    elif isinstance(cfg, (list, tuple)):
        for value in cfg:
            yield from _frames_per_clip(value, where)
