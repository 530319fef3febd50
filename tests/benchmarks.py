"""Tiny generated datasets of the layouts that the configs read."""

import cv2
import numpy as np

NUM_FRAMES = 20
# Class numbers of the two videos of a split; no mirrored video is of another.
LABELS = (3, 7)


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


def make_benchmarks(root):
    """Everything below ``root/data``, two videos per split."""
    data = root / 'data'
    for split, videos in (('train', (1, 2)), ('val', (3, 4))):
        for video in videos:
            write_frames(data / f'sthv1/rawframes/{video}', video)
        write_list(
            data / f'sthv1/sthv1_{split}_list_rawframes.txt',
            [f'{v} {NUM_FRAMES} {n}' for v, n in zip(videos, LABELS)],
        )
        for dataset, folder, suffix in (
            ('sthv2', 'videos', '.webm'),
            ('diving48', 'videos', '.mp4'),
            ('kinetics400', f'videos_{split}', '.mp4'),
        ):
            for video in videos:
                write_video(data / dataset / folder / f'{video}{suffix}', video)
            write_list(
                data / f'{dataset}/{dataset}_{split}_list_videos.txt',
                [f'{v}{suffix} {n}' for v, n in zip(videos, LABELS)],
            )
    for fold in (1, 2, 3):
        for i, split in enumerate(('train', 'test')):
            names = [f'P0{fold}/clip{i}{j}.mp4' for j in (0, 1)]
            for name in names:
                write_video(data / 'egtea/videos' / name, fold)
            write_list(
                data / f'egtea/egtea_{split}_split_{fold}_videos.txt',
                [f'{name} {n}' for name, n in zip(names, LABELS)],
            )


def write_list(path, lines):
    path.write_text(''.join(f'{line}\n' for line in lines))
