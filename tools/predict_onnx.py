r"""Classify a video with an exported model, where there is no PyTorch.

It needs onnxruntime, NumPy, OpenCV and decord. Clips are made as the test pipeline
of the model's config says, which `tools/export.py` writes into the file. Copy this
file to where you serve the model, or take `Predictor` from it.

Examples:
    python tools/predict_onnx.py tsm.onnx video.mp4
    python tools/predict_onnx.py tsm.onnx video.mp4 --labels classes.txt --topk 5
"""

import argparse
import json
import sys
from pathlib import Path

import cv2
import decord
import numpy as np
import onnxruntime


class Predictor:
    """An exported model with its test pipeline.

    Args:
        path (str): An ``.onnx`` file of ``tools/export.py``.

    Raises:
        ValueError: If it has no test pipeline, or one that is not known here.
    """

    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(
            str(path), providers=['CPUExecutionProvider']
        )
        metadata = self.session.get_modelmeta().custom_metadata_map
        if 'test_pipeline' not in metadata:
            raise ValueError(
                f'{path}: expected the test pipeline that tools/export.py writes into '
                'an ONNX file, got none. Export the model again.'
            )
        self.steps = []
        for options in json.loads(metadata['test_pipeline']):
            name = options.pop('type')
            if name not in TRANSFORMS:
                raise ValueError(
                    f'{path}: expected transforms out of {", ".join(TRANSFORMS)}, '
                    f'got {name}.'
                )
            self.steps.append((TRANSFORMS[name], options))

    def __call__(self, video):
        """The scores of the classes, ``[classes]``."""
        clip = dict(reader=decord.VideoReader(str(video)))
        for transform, options in self.steps:
            transform(clip, **options)
        (scores,) = self.session.run(None, {'inputs': clip['frames'][None]})
        # [1, classes], or [1, views, classes] of a head that does not average
        return scores[0] if scores.ndim == 2 else scores[0].mean(0)


def open_video(clip, **options):
    """It is open."""


def sample_frames(
    clip,
    clip_len,
    frame_interval=1,
    num_clips=1,
    twice_sample=False,
    out_of_bound_opt='loop',
    test_mode=True,
):
    """Numbers of the frames of all clips, as ``SampleFrames`` of MMAction2."""
    total = len(clip['reader'])
    if clip_len == 1:  # of 2-D networks: one in the middle of each segment
        begins = np.arange(num_clips) * (total / num_clips)
        starts = begins + total / num_clips / 2
        if twice_sample:
            starts = np.concatenate([starts, begins])
    else:
        last = max(total - (clip_len - 1) * frame_interval - 1, 0)
        count = num_clips * (2 if twice_sample else 1)
        starts = np.array([last // 2])
        if count > 1:
            starts = np.round(np.arange(count) * (last / (num_clips - 1)))
    numbers = starts[:, None] + np.arange(clip_len) * frame_interval
    if out_of_bound_opt == 'loop':
        numbers = np.mod(numbers, total)
    else:  # the last frame of each clip that is there, again
        is_there = numbers < total
        inside = np.where(is_there, numbers, 0)
        numbers = np.where(is_there, numbers, inside.max(1, keepdims=True))
    clip['numbers'] = numbers.astype(np.int32).ravel()
    clip['clip_len'] = clip_len


def decode(clip, mode='accurate', on_error='raise'):
    """The frames ``[M, H, W, 3]``, RGB."""
    numbers, inverse = np.unique(clip['numbers'], return_inverse=True)
    clip['frames'] = clip['reader'].get_batch(list(numbers)).asnumpy()[inverse]


def resize(clip, scale, keep_ratio=True, interpolation='bilinear'):
    """To a size, or to a length of the short edge, ``(-1, edge)``."""
    height, width = clip['frames'].shape[1:3]
    size = tuple(scale)
    if keep_ratio:
        short, long = sorted(scale)
        if short == -1:
            short, long = long, np.inf
        factor = min(long / max(height, width), short / min(height, width))
        size = int(width * factor + 0.5), int(height * factor + 0.5)
    how = dict(bilinear=cv2.INTER_LINEAR, bicubic=cv2.INTER_CUBIC)[interpolation]
    frames = [cv2.resize(frame, size, interpolation=how) for frame in clip['frames']]
    clip['frames'] = np.stack(frames)


def center_crop(clip, crop_size):
    """The middle of the frames."""
    height, width, crop_height, crop_width = _sizes(clip, crop_size)
    _crop(
        clip,
        [((height - crop_height) // 2, (width - crop_width) // 2)],
        crop_height,
        crop_width,
    )


def three_crop(clip, crop_size):
    """Both ends of the long edge, and the middle."""
    height, width, crop_height, crop_width = _sizes(clip, crop_size)
    down, right = (height - crop_height) // 2, (width - crop_width) // 2
    corners = [(factor * down, factor * right) for factor in (0, 2, 1)]
    _crop(clip, corners, crop_height, crop_width)


def format_shape(clip, input_format):
    """``[M, 3, H, W]`` for 2-D networks, or ``[M, 3, T, H, W]``."""
    frames = clip['frames']
    if input_format == 'NCTHW':
        # [views * T, H, W, 3] -> [views, 3, T, H, W]
        frames = frames.reshape(-1, clip['clip_len'], *frames.shape[1:])
        clip['frames'] = np.ascontiguousarray(frames.transpose(0, 4, 1, 2, 3))
    else:
        clip['frames'] = np.ascontiguousarray(frames.transpose(0, 3, 1, 2))


def pack(clip, **options):
    """Nothing but frames goes to the model."""


def _sizes(clip, crop_size):
    pair = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
    crop_width, crop_height = pair
    return (*clip['frames'].shape[1:3], crop_height, crop_width)


def _crop(clip, corners, height, width):
    frames = clip['frames']
    clip['frames'] = np.concatenate(
        [frames[:, top : top + height, left : left + width] for top, left in corners]
    )


TRANSFORMS = dict(
    DecordInit=open_video,
    ReadableDecordInit=open_video,
    SampleFrames=sample_frames,
    DecordDecode=decode,
    ReadableDecordDecode=decode,
    Resize=resize,
    CenterCrop=center_crop,
    ThreeCrop=three_crop,
    FormatShape=format_shape,
    PackActionInputs=pack,
)


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', metavar='MODEL.onnx')
    parser.add_argument('videos', metavar='VIDEO', nargs='+')
    parser.add_argument('--labels', type=Path, help='a class name in each line')
    parser.add_argument('--topk', type=int, default=1)
    return parser.parse_args()


def main():
    args = parse_args()
    try:
        predict = Predictor(args.model)
    except ValueError as error:
        sys.exit(f'{Path(__file__).name}: {error}')
    names = (
        args.labels.read_text(encoding='utf-8').splitlines() if args.labels else None
    )
    for video in args.videos:
        scores = predict(video)
        for label in np.argsort(-scores)[: args.topk]:
            name = names[label] if names else label
            print(f'{video}: {name} {scores[label]:.4f}')


if __name__ == '__main__':
    main()
