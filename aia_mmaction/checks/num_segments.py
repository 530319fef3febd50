"""Is num_segments one number in all the places of a config that name it?

Frames are folded into the batch of a 2-D network, so a wrong ``num_segments``
mixes frames of different clips without an error whenever it happens to divide
the batch.
"""

from typing import Any, Iterable, Iterator, NamedTuple, Optional, Tuple

from mmaction.models import RecognizerAudio
from torch import Tensor, nn

from aia_mmaction.necks import AIANeck
from aia_mmaction.plugins.behaviour import WithAttention
from aia_mmaction.utils.config import type_name

PICTURE_CHANNELS = 3  # or fewer; more are several frames in one, as of flow


class Owner(NamedTuple):
    """What has attention that counts frames, in a recognizer."""

    module: nn.Module
    part: str  # 'backbone' or 'neck'
    num_segments: int


def find_owner(model: nn.Module) -> Optional[Owner]:
    """The backbone, else the neck; None if nothing counts frames."""
    for part in ('backbone', 'neck'):
        module = getattr(model, part, None)
        num_segments = getattr(module, 'num_segments', None)
        if isinstance(module, (WithAttention, AIANeck)) and num_segments is not None:
            return Owner(module, part, num_segments)
    return None


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
    owner = find_owner(model)
    if owner is None:
        return ''
    name, right = type(owner.module).__name__, owner.num_segments
    if isinstance(model, RecognizerAudio):
        return (
            f'{name}: expected a recognizer of videos, got a RecognizerAudio. A '
            'spectrogram is one picture, with no frames for the attention to relate. '
            'Leave plugins=[], or take the plain backbone.'
        )
    if 'num_segments' in (cfg.get('model') or {}):  # AIARecognizer2D
        path = 'model.num_segments'
    else:
        path = f'model.{owner.part}.num_segments'
    used = [
        (f'model.{other}.num_segments', n)
        for other in ('neck', 'cls_head')
        for n in [getattr(getattr(model, other, None), 'num_segments', None)]
        if n is not None
    ]
    channels = _input_channels(model)
    for phase in phases:
        loader = f'{phase}_dataloader'
        used += frames_per_clip(cfg.get(loader), loader, channels)
    wrong = [(where, n) for where, n in used if n != right]
    if not wrong:
        return ''
    got = ', '.join(f'{n} in {where}' for where, n in wrong)
    options = ' '.join(f'{where}={right}' for where, _ in wrong)
    return (
        f'{name}: expected {right} frames per clip '
        f'everywhere, as in {path}, got {got}. Give '
        'num_clips of every pipeline and num_segments of backbone and '
        f'head the same value, e.g. with --cfg-options {options}.'
    )


def wrong_batch(model: nn.Module, inputs: Any) -> str:
    """Compare the frames per clip of attention with a batch.

    That tells, too, where a config does not: for samplers that are not known.

    Args:
        model (nn.Module): A recognizer.
        inputs (Any): The ``'inputs'`` of a batch, before the data preprocessor.
            Only ``[M, C, H, W]`` for each video, of 2-D networks, are looked at.

    Returns:
        str: What is wrong and how to mend it; empty if nothing is.
    """
    owner = find_owner(model)
    if owner is None or not isinstance(inputs, (list, tuple, Tensor)):
        return ''
    for frames in inputs:
        if not isinstance(frames, Tensor):
            continue
        if frames.dim() == 4 and len(frames) % owner.num_segments:
            return (
                f'{type(owner.module).__name__}: expected whole clips of '
                f'num_segments={owner.num_segments} frames of each video, got '
                f'{len(frames)} frames of one, {list(frames.shape)}. Clips would mix '
                'frames of different videos. Set num_segments to the frames per clip '
                'that the pipeline samples.'
            )
    return ''


def _input_channels(model: nn.Module) -> int:
    backbone = getattr(model, 'backbone', nn.Identity())
    for module in backbone.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            return module.in_channels
    return PICTURE_CHANNELS


def frames_per_clip(cfg: Any, path: str, channels: int) -> Iterator[Tuple[str, int]]:
    """Where a config samples frames, and how many the network gets at once.

    Args:
        cfg (Any): Part of a config.
        path (str): The path to it, as in ``--cfg-options``.
        channels (int): Of the network's input. Where they are more than a
            picture has, the ``clip_len`` frames of a clip are stacked into one,
            as those of optical flow.
    """
    if isinstance(cfg, dict):
        if 'Sample' in type_name(cfg) and 'clip_len' in cfg:
            # Frames far apart are clips of one frame (TSN, TSM); clips of
            # several frames are views of their own (C2D).
            stacked = channels > PICTURE_CHANNELS
            key = 'clip_len' if cfg['clip_len'] > 1 and not stacked else 'num_clips'
            yield f'{path}.{key}', cfg.get(key, 1)
        children: Iterable[Tuple[Any, Any]] = cfg.items()
    elif isinstance(cfg, (list, tuple)):
        children = enumerate(cfg)
    else:
        children = ()
    for key, value in children:
        yield from frames_per_clip(value, f'{path}.{key}', channels)
