"""Is num_segments one number in all the places of a config that name it?

Frames are folded into the batch of a 2-D network, so a wrong ``num_segments``
mixes frames of different clips without an error whenever it happens to divide
the batch.
"""
import ast
from typing import Any, Iterator, Tuple

from mmengine.logging import MessageHub
from torch import nn


def check_num_segments(backbone: nn.Module) -> None:
    """Compare a backbone's ``num_segments`` with the running config.

    It is compared once. In training that is when the runner initialises the
    weights, before a resumed checkpoint replaces what the runner has said of
    itself; in testing it is before the first iteration.

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
            or getattr(backbone, 'num_segments_checked', False)):
        return
    cfg = _read(text)
    model = cfg.get('model') or {}
    backbone_cfg = model.get('backbone') or {}
    if (_type_name(backbone_cfg) != type(backbone).__name__
            or backbone_cfg.get('num_segments', num_segments) != num_segments):
        return  # The config of another model, trained earlier in this process.
    backbone.num_segments_checked = True

    head = model.get('cls_head') or {}
    # TSMHead counts for itself, TSNHead takes what it is given.
    default = 8 if _type_name(head) == 'TSMHead' else num_segments
    found = [('model.cls_head.num_segments', head.get('num_segments',
                                                      default))]
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        found += _frames_per_clip(cfg.get(loader), loader)
    wrong = [f'{n} in {where}' for where, n in found if n != num_segments]
    if wrong:
        raise ValueError(
            f'{type(backbone).__name__}: expected {num_segments} frames per '
            'clip everywhere, as in model.backbone.num_segments, got '
            f'{", ".join(wrong)}. Give num_clips of every pipeline and '
            'num_segments of backbone and head the same value.')


def _type_name(cfg: dict) -> str:
    return str(cfg.get('type')).split('.')[-1]


def _frames_per_clip(cfg: Any, where: str) -> Iterator[Tuple[str, int]]:
    """Where a config samples frames, and how many the network gets at once."""
    if isinstance(cfg, dict):
        if 'Sample' in _type_name(cfg) and 'clip_len' in cfg:
            # Frames far apart are clips of one frame (TSN, TSM); clips of
            # several frames are views of their own (C2D).
            frames = (cfg['clip_len'] if cfg['clip_len'] > 1 else cfg.get(
                'num_clips', 1))
            yield f'{_type_name(cfg)} of {where}', frames
        for value in cfg.values():
            yield from _frames_per_clip(value, where)
    elif isinstance(cfg, (list, tuple)):
        for value in cfg:
            yield from _frames_per_clip(value, where)


def _read(text: str) -> dict:
    """The values in a config file's text, without running it.

    What is no literal, ``dict(...)``, list or tuple reads as None.
    """

    def value(node):
        if isinstance(node, ast.Call) and getattr(node.func, 'id',
                                                  None) == 'dict':
            return {kw.arg: value(kw.value) for kw in node.keywords}
        if isinstance(node, ast.Dict):
            return {
                value(k): value(v)
                for k, v in zip(node.keys, node.values)
                if isinstance(k, ast.Constant)
            }
        if isinstance(node, (ast.List, ast.Tuple)):
            return [value(element) for element in node.elts]
        return node.value if isinstance(node, ast.Constant) else None

    try:
        statements = ast.parse(text).body
    except SyntaxError:
        return {}
    return {
        statement.targets[0].id: value(statement.value)
        for statement in statements if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
    }
