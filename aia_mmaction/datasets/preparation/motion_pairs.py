"""The motion-pairs dataset: 8 rendered classes that need temporal order.

Four motions (across, vertical, scaling, circling), each forward and
time-reversed. A reversed clip is a forward clip played backwards, so the two
classes of a pair have the same frames, and only their order tells them apart:
a network that averages frame scores gets the motion right and guesses the
direction. Shape, colour, size, speed, background and noise are random.

Videos are encoded with Motion JPEG, which codes every frame by itself: a codec
that predicts frames from earlier ones would leave traces of the direction in
single frames.
"""

import json
import os
from pathlib import Path
from typing import Dict, List

import cv2
import numpy as np
from mmengine.utils import track_progress

from aia_mmaction.utils.files import write_text

MOTIONS = ('across', 'vertical', 'scaling', 'circling')
CLASSES = tuple(
    f'{motion} {direction}'
    for motion in MOTIONS
    for direction in ('forward', 'reversed')
)
SUBPIXEL_BITS = 4  # cv2 draws at 1/16 pixel, so slow objects move smoothly


def trajectory(motion: str, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Centre and radius of the object in a forward clip.

    Returns:
        ndarray: ``[num_frames, 3]``, x, y and radius in units of the frame's
        side length.
    """
    start, stop = rng.uniform(0.1, 0.25), rng.uniform(0.75, 0.9)
    travel = np.linspace(start, stop, num_frames)
    x, y = (np.full(num_frames, rng.uniform(0.35, 0.65)) for _ in range(2))
    radius = np.full(num_frames, rng.uniform(0.08, 0.16))
    if motion == 'across':
        x = travel
    elif motion == 'vertical':
        y = travel
    elif motion == 'scaling':
        radius = 0.4 * travel
    elif motion == 'circling':
        turns = rng.uniform(1, 2) * np.linspace(0, 1, num_frames)
        angle = 2 * np.pi * (rng.uniform() + turns)
        orbit = rng.uniform(0.2, 0.3)
        x, y = x + orbit * np.cos(angle), y + orbit * np.sin(angle)
    return np.stack([x, y, radius], axis=1)


def background(size: int, rng: np.random.Generator) -> np.ndarray:
    """A static texture: smooth random blobs of two scales, ``[H, W, 3]``."""
    texture = sum(
        weight
        * cv2.resize(
            rng.uniform(0, 1, (cells, cells, 3)),
            (size, size),
            interpolation=cv2.INTER_CUBIC,
        )
        for cells, weight in ((4, 0.6), (12, 0.4))
    )
    return np.clip(texture, 0, 1) * 120


def draw(
    canvas: np.ndarray,
    sides: int,
    x: float,
    y: float,
    radius: float,
    turn: float,
    colour: List[float],
) -> None:
    """Draw a disc (0 sides) or a regular polygon, in place."""
    scale = canvas.shape[0] * 2**SUBPIXEL_BITS
    centre = np.array([x, y]) * scale
    if sides == 0:
        cv2.circle(
            canvas,
            centre.round().astype(int).tolist(),
            round(radius * scale),
            colour,
            -1,
            cv2.LINE_AA,
            SUBPIXEL_BITS,
        )
        return
    angles = turn + np.arange(sides) * 2 * np.pi / sides
    corners = centre + radius * scale * np.stack(
        [np.cos(angles), np.sin(angles)], axis=1
    )
    cv2.fillPoly(
        canvas, [corners.round().astype(np.int32)], colour, cv2.LINE_AA, SUBPIXEL_BITS
    )


def render(
    label: int, num_frames: int, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Render one clip.

    Returns:
        ndarray: uint8 frames ``[num_frames, size, size, 3]``, BGR.
    """
    motion, is_reversed = MOTIONS[label // 2], label % 2
    path = trajectory(motion, num_frames, rng)
    if is_reversed:
        path = path[::-1]
    texture = background(size, rng)
    sides = rng.choice([0, 3, 4, 5])
    turn = rng.uniform(0, 2 * np.pi)
    colour = rng.uniform(120, 255, 3).tolist()
    frames = []
    for x, y, radius in path:
        canvas = texture.copy()
        draw(canvas, sides, x, y, radius, turn, colour)
        canvas += rng.normal(0, 8, canvas.shape)
        frames.append(np.clip(canvas, 0, 255).astype(np.uint8))
    return np.stack(frames)


def write_video(path: Path, frames: np.ndarray) -> None:
    """Write a video so that it is there as a whole or not at all."""
    draft = path.with_name(f'draft_{path.name}')
    writer = cv2.VideoWriter(
        str(draft), cv2.VideoWriter.fourcc(*'MJPG'), 12, frames.shape[2:0:-1]
    )
    if not writer.isOpened():
        raise OSError(
            f'Cannot write {draft}: expected an OpenCV that encodes Motion '
            'JPEG and a folder that can be written to.'
        )
    for frame in frames:
        writer.write(frame)
    writer.release()
    os.replace(draft, path)


def keep_settings(out: Path, settings: Dict[str, int]) -> None:
    """Write what the videos are made with.

    Args:
        out (Path): The folder of the dataset.
        settings (dict[str, int]): Arguments of :func:`make_split`.

    Raises:
        ValueError: If the folder has videos that were made with others.
    """
    path = out / 'settings.json'
    if path.exists():
        found = json.loads(path.read_text(encoding='utf-8'))
        if found != settings:
            raise ValueError(
                f'{out}: expected videos made with {settings}, got {found} from an '
                'earlier run. Choose another folder, or delete this one.'
            )
    write_text(path, json.dumps(settings) + '\n')


def make_split(
    out: Path, split: str, num_videos: int, num_frames: int, size: int, seed: int
) -> None:
    """Render the videos of a split that are missing, and its list.

    Raises:
        ValueError: If there is a list of another number of videos.
    """
    list_file = out / f'motion_pairs_{split}_list_videos.txt'
    if list_file.exists():  # it is written last
        found = len(list_file.read_text(encoding='utf-8').splitlines())
        if found != num_videos:
            raise ValueError(
                f'{list_file}: expected {num_videos} videos, got {found} from '
                'an earlier run. Choose another folder, or delete this one.'
            )
        print(f'{list_file} is there, {found} videos.')
        return
    folder = out / 'videos' / split
    folder.mkdir(parents=True, exist_ok=True)

    def make(index: int) -> str:
        # Every video has a seed of its own, so an interrupted run continues
        # with the same videos. Splits differ by their first seed.
        rng = np.random.default_rng([seed, split == 'test', index])
        label = index % len(CLASSES)
        write_video(folder / f'{index:05}.avi', render(label, num_frames, size, rng))
        return f'{split}/{index:05}.avi {label}'

    print(f'Rendering {num_videos} videos for {split}')
    lines = track_progress(make, list(range(num_videos)))
    write_text(list_file, '\n'.join(lines) + '\n')
    print()
