"""Is num_segments one number in all the places of a config that name it?

Frames are folded into the batch of a 2-D network, so a wrong ``num_segments``
mixes frames of different clips without an error whenever it happens to divide
the batch.
"""

from typing import Any, Iterable, Iterator, Tuple

from torch import nn

from aia_mmaction.backbones.behaviour import WithAttention
from aia_mmaction.config import type_name
from aia_mmaction.necks import AIANeck


def wrong_num_segments(model: nn.Module, cfg: dict, phases: Iterable[str]) -> str:
    """Compare the frames per clip of attention with the head and the pipelines.

    Args:
        model (nn.Module): A recognizer. Without attention that counts frames
            there is nothing to compare.
        cfg (dict): The config of the run.
        phases (Iterable[str]): Whose pipelines, ``'train'``, ``'val'`` or
            ``'test'``.

    Returns:
        str: What is wrong and how to mend it; empty if nothing is.
    """
    for part in ('backbone', 'neck'):
        owner = getattr(model, part, None)
        right = getattr(owner, 'num_segments', None)
        if isinstance(owner, (WithAttention, AIANeck)) and right is not None:
            break
    else:
        return ''
    if 'num_segments' in (cfg.get('model') or {}):  # AIARecognizer2D
        path = 'model.num_segments'
    else:
        path = f'model.{part}.num_segments'
    used = [
        (f'model.{other}.num_segments', n)
        for other in ('neck', 'cls_head')
        for n in [getattr(getattr(model, other, None), 'num_segments', None)]
        if n is not None
    ]
    for phase in phases:
        loader = f'{phase}_dataloader'
        used += _frames_per_clip(cfg.get(loader), loader)
    wrong = [(where, n) for where, n in used if n != right]
    if not wrong:
        return ''
    got = ', '.join(f'{n} in {where}' for where, n in wrong)
    options = ' '.join(f'{where}={right}' for where, _ in wrong)
    return (
        f'{type(owner).__name__}: expected {right} frames per clip '
        f'everywhere, as in {path}, got {got}. Give '
        'num_clips of every pipeline and num_segments of backbone and '
        f'head the same value, e.g. with --cfg-options {options}.'
    )


def _frames_per_clip(
    cfg: Any, path: str, is_flow: bool = False
) -> Iterator[Tuple[str, int]]:
    """Where a config samples frames, and how many the network gets at once.

    Args:
        cfg (Any): Part of a config.
        path (str): The path to it, as in ``--cfg-options``.
        is_flow (bool): Whether it is part of a dataset of optical flow, whose
            ``clip_len`` frames become channels of one. Defaults to False.
    """
    if isinstance(cfg, dict):
        is_flow = cfg.get('modality', 'Flow' if is_flow else 'RGB') == 'Flow'
        if 'Sample' in type_name(cfg) and 'clip_len' in cfg:
            # Frames far apart are clips of one frame (TSN, TSM); clips of
            # several frames are views of their own (C2D).
            key = 'clip_len' if cfg['clip_len'] > 1 and not is_flow else 'num_clips'
            yield f'{path}.{key}', cfg.get(key, 1)
        children: Iterable[Tuple[Any, Any]] = cfg.items()
    elif isinstance(cfg, (list, tuple)):
        children = enumerate(cfg)
    else:
        children = ()
    for key, value in children:
        yield from _frames_per_clip(value, f'{path}.{key}', is_flow)
