"""Render the motion-pairs dataset: 8 classes that need temporal order.

Four motions (across, vertical, scaling, circling), each forward and
time-reversed. A reversed clip is a forward clip played backwards, so the two
classes of a pair have the same frames, and only their order tells them apart:
a network that averages frame scores gets the motion right and guesses the
direction. Shape, colour, size, speed, background and noise are random.

Videos are encoded with Motion JPEG, which codes every frame by itself: a codec
that predicts frames from earlier ones would leave traces of the direction in
single frames.

The result has MMAction2's layout for VideoDataset:

    OUT/videos/{train,test}/00000.avi ...
    OUT/motion_pairs_{train,test}_list_videos.txt   # 'train/00000.avi 3'
    OUT/label_map.txt                               # class names
    OUT/settings.json                               # what the videos were made with

Examples:
    python tools/data/make_motion_pairs.py data/motion_pairs
    python tools/data/make_motion_pairs.py tiny --num-train 16 --num-test 8
"""

import argparse
import sys
from pathlib import Path

from aia_mmaction.datasets.preparation.motion_pairs import (
    CLASSES,
    keep_settings,
    make_split,
)
from aia_mmaction.utils.files import write_text


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, help='folder of the dataset')
    parser.add_argument('--num-train', type=int, default=800)
    parser.add_argument('--num-test', type=int, default=400)
    parser.add_argument(
        '--num-frames',
        type=int,
        default=24,
        help='an odd multiple of the frames that a network samples: else '
        'SampleFrames in test mode meets the two directions at different '
        'moments, which is a hint',
    )
    # Not every size will do: decord 0.6 cannot read videos 48 pixels wide.
    parser.add_argument('--size', type=int, default=64, help='side in pixels')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    if min(args.num_train, args.num_test) < len(CLASSES):
        parser.error(
            f'expected at least {len(CLASSES)} videos per split, one '
            f'per class, got {args.num_train} and {args.num_test}'
        )
    if args.num_frames < 2 or args.size < 16:
        parser.error(
            'expected at least 2 frames of 16 pixels, got '
            f'{args.num_frames} of {args.size}'
        )
    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / 'label_map.txt', '\n'.join(CLASSES) + '\n')
    settings = dict(num_frames=args.num_frames, size=args.size, seed=args.seed)
    try:
        keep_settings(args.out, settings)
        make_split(args.out, 'train', args.num_train, **settings)
        make_split(args.out, 'test', args.num_test, **settings)
    except ValueError as error:
        sys.exit(f'{Path(__file__).name}: {error}')


if __name__ == '__main__':
    main()
