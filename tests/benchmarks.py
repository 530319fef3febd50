"""Tiny generated datasets of the layouts that the configs read."""

from functools import partial

import cv2
import numpy as np

NUM_FRAMES = 20
# Class numbers of the two videos of a split; no mirrored video is of another.
LABELS = (3, 8)


def make_frames(seed):
    """uint8 ``[T, H, W, 3]``, wider than high."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 255, (NUM_FRAMES, 72, 96, 3), np.uint8)


def write_video(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    # OpenCV chooses the container by the name.
    draft = path.with_suffix('.avi')
    writer = cv2.VideoWriter(str(draft), cv2.VideoWriter_fourcc(*'MJPG'), 12, (96, 72))
    for frame in make_frames(seed):
        writer.write(frame)
    writer.release()
    draft.rename(path)


def write_frames(folder, seed):
    folder.mkdir(parents=True)
    for i, frame in enumerate(make_frames(seed), start=1):
        cv2.imwrite(str(folder / f'{i:05}.jpg'), frame)


DATASETS = ('sthv1', 'sthv2', 'jester', 'diving48', 'kinetics400', 'egtea')


def make_benchmarks(root, datasets=DATASETS):
    """Datasets below ``root/data``, two videos per split."""
    for dataset in datasets:
        _MAKERS[dataset](root / 'data' / dataset)


def _make_frames(folder):
    for split, videos in (('train', (1, 2)), ('val', (3, 4))):
        for video in videos:
            write_frames(folder / f'rawframes/{video}', video)
        lines = [f'{v} {NUM_FRAMES} {n}' for v, n in zip(videos, LABELS)]
        write_list(folder / f'{folder.name}_{split}_list_rawframes.txt', lines)


def _make_videos(folder, suffix, videos_of='videos'):
    for split, videos in (('train', (1, 2)), ('val', (3, 4))):
        for video in videos:
            name = f'{video}{suffix}'
            write_video(folder / videos_of.format(split=split) / name, video)
        lines = [f'{v}{suffix} {n}' for v, n in zip(videos, LABELS)]
        write_list(folder / f'{folder.name}_{split}_list_videos.txt', lines)


def _make_egtea(folder):
    for fold in (1, 2, 3):
        for i, split in enumerate(('train', 'test')):
            names = [f'P0{fold}/clip{i}{j}.mp4' for j in (0, 1)]
            for name in names:
                write_video(folder / 'videos' / name, fold)
            lines = [f'{name} {n}' for name, n in zip(names, LABELS)]
            write_list(folder / f'egtea_{split}_split_{fold}_videos.txt', lines)


_MAKERS = {
    'sthv1': _make_frames,
    'jester': _make_frames,
    'sthv2': partial(_make_videos, suffix='.webm'),
    'diving48': partial(_make_videos, suffix='.mp4'),
    'kinetics400': partial(_make_videos, suffix='.mp4', videos_of='videos_{split}'),
    'egtea': _make_egtea,
}


def write_list(path, lines):
    path.write_text(''.join(f'{line}\n' for line in lines))
