"""Make the list files of a benchmark from what its owners ship.

SOURCE is a folder with everything that you downloaded, archives or unpacked:

- sthv1: frames (20bn-something-something-v1-00, ...) and the CSV files
- sthv2: videos (20bn-something-something-v2-00, ...) and the JSON files
- jester: frames (20bn-jester-v1-00, ...) and the CSV files
- diving48: videos, Diving48_V2_train.json, Diving48_V2_test.json and
  Diving48_vocab.json
- egtea: cropped clips, train_split1.txt, ..., action_idx.txt
- utd-mhad: Depth (a1_s1_t1_depth.mat, ...) or, with --modality rgb, RGB
  (a1_s1_t1_color.avi, ...); of depth, videos are made in the target folder
- jhmdb: ReCompress_Videos and splits (brush_hair_test_split1.txt, ...)

Archives are unpacked below the target folder, and what is unpacked already is
linked. Every video is checked (first, middle and last frame are decoded); what
is broken or missing is left out and listed in unreadable.txt. The lists are
those that the configs read; labels.txt beside them has the names of the
classes. Run it again to continue after an interruption, or when a file was
replaced: only what has changed is checked again.

Examples:
    python tools/data/prepare.py sthv2 ~/downloads/sthv2
    python tools/data/prepare.py sthv1 ~/downloads/sthv1 --label-order sorted
    python tools/data/prepare.py egtea /mnt/egtea --target data/egtea
"""

import argparse
import os
import sys
from pathlib import Path

from aia_mmaction.datasets.preparation import (
    BENCHMARKS,
    AnnotationError,
    ArchiveError,
    prepare,
)


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('benchmark', choices=BENCHMARKS)
    parser.add_argument('source', type=Path, help='what you downloaded')
    parser.add_argument(
        '--target',
        type=Path,
        help='folder of the lists. Default: data/BENCHMARK, where the configs look',
    )
    parser.add_argument(
        '--label-order',
        choices=['mmaction2', 'sorted'],
        help='of Something-Something and Jester: as in the label file '
        '(the default) or sorted, as the authors of TSM and '
        'AIA do',
    )
    parser.add_argument(
        '--with-test-labels',
        action='store_true',
        help='of sthv2, to label its test list by test-answers.csv, which '
        'newer packages bring',
    )
    parser.add_argument(
        '--modality',
        choices=['depth', 'rgb'],
        help='of utd-mhad. Default: depth. No config reads the colour videos: in one '
        'for depth, change ann_file and data_prefix to data/utd-mhad-rgb',
    )
    parser.add_argument(
        '--num-workers',
        type=int,
        default=os.cpu_count(),
        help='processes that check. Default: one per core',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    if args.modality and args.benchmark != 'utd-mhad':
        sys.exit(
            f'--modality: expected utd-mhad, got {args.benchmark}, of which there is '
            'one kind of videos. Leave the option out.'
        )
    name = args.benchmark + ('-rgb' if args.modality == 'rgb' else '')
    target = args.target or Path('data') / name
    options = {}
    if args.benchmark in ('sthv1', 'sthv2', 'jester'):
        options['label_order'] = args.label_order or 'mmaction2'
    elif args.label_order:
        sys.exit(
            f'--label-order: expected sthv1, sthv2 or jester, got {args.benchmark}, of '
            'which there is one order. Leave the option out.'
        )
    if args.benchmark == 'utd-mhad':
        options['modality'] = args.modality or 'depth'
    if args.with_test_labels:
        if args.benchmark != 'sthv2':
            sys.exit(
                f'--with-test-labels: expected sthv2, got {args.benchmark}, of which '
                'no test labels are published. Leave the option out.'
            )
        options['with_test_labels'] = True
    try:
        prepare(args.benchmark, args.source, target, args.num_workers, **options)
    except (AnnotationError, ArchiveError, ImportError, OSError) as error:
        sys.exit(f'{Path(__file__).name}: {error}')


if __name__ == '__main__':
    main()
