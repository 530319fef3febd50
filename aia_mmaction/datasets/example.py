"""What a config's network gets of a video, found out without a video."""

from typing import Any, List

import numpy as np
from mmengine.dataset import Compose
from torch import Tensor

from aia_mmaction.utils.config import type_name

from .protocols import with_protocol

FRAMES, HEIGHT, WIDTH = 300, 240, 320
KEYPOINTS = 17  # of COCO, as in all 2-D skeletons of MMAction2


def find_dataset(cfg: Any, loader: str) -> dict:
    """The dataset of a loader; of wrappers such as ``RepeatDataset`` the one inside,
    of several the first.

    Args:
        cfg (Config): A config.
        loader (str): ``'train'``, ``'val'`` or ``'test'``.
    """
    dataset = cfg[f'{loader}_dataloader']['dataset']
    while 'pipeline' not in dataset:
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset


def find_pipeline(cfg: Any, loader: str) -> List[dict]:
    """The pipeline that a loader uses, with a benchmark's test protocol applied.

    Variables such as ``test_pipeline`` may be changed after they were used.
    """
    dataset = find_dataset(cfg, loader)
    if dataset.get('protocol') is None:
        return dataset['pipeline']
    return with_protocol(dataset['pipeline'], dataset['protocol'])


def example_inputs(cfg: Any, loader: str) -> Tensor:
    """What a pipeline makes of one video of 300 black frames of 240 x 320.

    Videos, folders of frames, optical flow and 2-D skeletons are known.

    Args:
        cfg (Config): A config.
        loader (str): ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        Tensor: A batch of one, ``[1, M, C, H, W]`` for 2-D networks or ``[1, M,
        C, T, H, W]``, uint8 or, of skeletons, float32.

    Raises:
        ValueError: If the pipeline begins with something else.
    """
    pipeline = find_pipeline(cfg, loader)
    modality = find_dataset(cfg, loader).get('modality', 'RGB')
    kinds = [type_name(transform) for transform in pipeline]
    sample = dict(total_frames=FRAMES, start_index=0, label=0, modality=modality)
    transforms: List[Any] = []
    for kind, transform in zip(kinds, pipeline):
        if kind == 'PoseDecode':
            sample.update(_skeletons(), modality='Pose')
            transforms.append(transform)
        elif kind == 'MMDecode':  # pictures, cropped to a skeleton
            sample.update(_skeletons(), modality='RGB')
            transforms.append(_black_frames)
        elif kind == 'DecompressPose':
            continue
        elif kind.endswith('Decode'):
            transforms.append(_black_frames)
        elif not kind.endswith('Init'):
            transforms.append(transform)
    try:
        return Compose(transforms)(sample)['inputs'][None]
    except KeyError as error:
        raise ValueError(
            f'{cfg.filename}, {loader}_dataloader: expected a pipeline that reads '
            f'videos, frames, optical flow or 2-D skeletons, got {", ".join(kinds)}, '
            f'of which one misses {error}.'
        ) from error


def _black_frames(results: dict) -> dict:
    """What decoding gives; of optical flow it is two channels."""
    shape = (HEIGHT, WIDTH, 2 if results['modality'] == 'Flow' else 3)
    # MMAction2's samplers of several modalities name them by one.
    indices = results['RGB_inds'] if 'RGB_inds' in results else results['frame_inds']
    results['imgs'] = [np.zeros(shape, np.uint8)] * np.size(indices)
    results['img_shape'] = results['original_shape'] = shape[:2]
    return results


def _skeletons() -> dict:
    """One person, all over the picture."""
    generator = np.random.default_rng(0)
    shape = (1, FRAMES, KEYPOINTS)
    return dict(
        keypoint=generator.uniform(0, (WIDTH, HEIGHT), (*shape, 2)).astype(np.float32),
        keypoint_score=np.ones(shape, np.float32),
        img_shape=(HEIGHT, WIDTH),
        original_shape=(HEIGHT, WIDTH),
    )
