"""Is num_segments one number in all the places of a config that name it?

Frames are folded into the batch of a 2-D network, so a wrong ``num_segments``
mixes frames of different clips without an error whenever it happens to divide
the batch.
"""

import ast
import logging
from typing import Any, Iterable, Iterator, Sequence, Tuple

from mmengine.logging import MessageHub, print_log
from torch import nn


def check_num_segments(backbone: nn.Module, training: bool) -> None:
    """Compare a backbone's ``num_segments`` with the running config, once.

    Args:
        backbone (nn.Module): A backbone. Without ``num_segments`` there is
            nothing to compare.
        training (bool): Whether the run trains. A test pipeline that
            disagrees is then only warned of: plain TSN is often tested with
            more frames than it is trained with.

    Raises:
        ValueError: If the head, or a pipeline that the run uses, of the
            config that the current runner was built from says something else.
    """
    num_segments = getattr(backbone, 'num_segments', None)
    # MMEngine's RuntimeInfoHook leaves the config here before a run.
    text = MessageHub.get_current_instance().runtime_info.get('cfg')
    if (
        num_segments is None
        or text is None
        or getattr(backbone, 'num_segments_checked', False)
    ):
        return
    cfg = _read(text)
    model = cfg.get('model') or {}
    owner, cfg_of_owner = 'model.backbone', model.get('backbone') or {}
    another = _type_name(cfg_of_owner) != type(backbone).__name__
    if _type_name(model) == 'AIARecognizer2D':
        owner, cfg_of_owner, another = 'model', model, False
    if another or cfg_of_owner.get('num_segments', num_segments) != num_segments:
        return  # The config of another model, trained earlier in this process.

    head = model.get('cls_head') or {}
    # TSMHead counts for itself, TSNHead takes what it is given.
    default = 8 if _type_name(head) == 'TSMHead' else num_segments
    # None is what clip_feature_extraction gives its FeatureHead.
    used = [('model.cls_head.num_segments', head.get('num_segments') or default)]
    neck = model.get('neck') or {}
    used.append(('model.neck.num_segments', neck.get('num_segments', num_segments)))
    test = list(_frames_per_clip(cfg.get('test_dataloader'), 'test_dataloader'))
    if training:
        used += _frames_per_clip(cfg.get('train_dataloader'), 'train_dataloader')
        used += _frames_per_clip(cfg.get('val_dataloader'), 'val_dataloader')
    else:
        used += test
    wrong = _disagreement(backbone, owner, used)
    if wrong:
        raise ValueError(wrong)
    backbone.num_segments_checked = True  # type: ignore[assignment]
    variable = cfg.get('num_segments')
    if variable not in (None, num_segments):
        # What took its value did so when the config was read.
        print_log(
            f'{type(backbone).__name__}: num_segments={variable} of the '
            f'config reaches nothing that was built, which has {num_segments} '
            'frames per clip. Use a config or base with that number.',
            logger='current',
            level=logging.WARNING,
        )
    later = _disagreement(backbone, owner, test)
    if later:
        print_log(
            f'This will stop testing. {later}', logger='current', level=logging.WARNING
        )


def _disagreement(
    backbone: nn.Module, owner: str, found: Sequence[Tuple[str, int]]
) -> str:
    """What is wrong and how to mend it; empty if nothing is."""
    right = backbone.num_segments
    wrong = [(where, n) for where, n in found if n != right]
    if not wrong:
        return ''
    got = ', '.join(f'{n} in {where}' for where, n in wrong)
    options = ' '.join(f'{where}={right}' for where, _ in wrong)
    return (
        f'{type(backbone).__name__}: expected {right} frames per clip '
        f'everywhere, as in {owner}.num_segments, got {got}. Give '
        'num_clips of every pipeline and num_segments of backbone and '
        f'head the same value, e.g. with --cfg-options {options}.'
    )


def _type_name(cfg: dict) -> str:
    return str(cfg.get('type')).split('.')[-1]


def _frames_per_clip(cfg: Any, where: str) -> Iterator[Tuple[str, int]]:
    """Where a config samples frames, and how many the network gets at once.

    Args:
        cfg (Any): Part of a config.
        where (str): The path to it, as in ``--cfg-options``.
    """
    if isinstance(cfg, dict):
        if 'Sample' in _type_name(cfg) and 'clip_len' in cfg:
            # Frames far apart are clips of one frame (TSN, TSM); clips of
            # several frames are views of their own (C2D).
            key = 'clip_len' if cfg['clip_len'] > 1 else 'num_clips'
            yield f'{where}.{key}', cfg.get(key, 1)
        children: Iterable[Tuple[Any, Any]] = cfg.items()
    elif isinstance(cfg, (list, tuple)):
        children = enumerate(cfg)
    else:
        children = ()
    for key, value in children:
        yield from _frames_per_clip(value, f'{where}.{key}')


def _read(text: str) -> dict:
    """The values in a config file's text, without running it.

    What is no literal, ``dict(...)``, list or tuple reads as None.
    """

    def value(node):
        if isinstance(node, ast.Call) and getattr(node.func, 'id', None) == 'dict':
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
        for statement in statements
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
    }
