r"""Write a leaderboard's file from what `mim test --dump` wrote.

- sthv1, jester: `id;label text` per line
- sthv2: `id;p1;p2;p3;p4;p5`, the five most probable classes
- epic: the JSON of EPIC-Kitchens' action recognition, from one model for verbs
  and one for nouns; an action is as probable as its verb times its noun

All are in the order of the official test list, which the dumps have to match
one to one. Several dumps, e.g. of CinST and STinC with 8 and 16 frames, are
averaged.

Examples:
    python tools/submit.py sthv2 cinst_8f.pkl stinc_16f.pkl \
        --list data/sthv2/sthv2_test_list_videos.txt --out submission.csv
    python tools/submit.py sthv1 pred.pkl --weights 1 --out submission.csv \
        --list data/sthv1/sthv1_test_list_rawframes.txt
    python tools/submit.py epic --verbs verbs.pkl --nouns nouns.pkl \
        --list data/epic/test.txt --out test.json
"""

import argparse
import sys
from pathlib import Path

from mmengine.fileio import list_from_file

from aia_mmaction.datasets.flip_by_label_name import SHIPPED
from aia_mmaction.evaluation.dumps import DumpError, combine, in_order_of, load_dump
from aia_mmaction.evaluation.submission import submission
from aia_mmaction.utils.files import write_text


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest='leaderboard', required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        '--list',
        type=Path,
        required=True,
        help='official test list, as the config reads it',
    )
    common.add_argument('--out', type=Path, required=True)
    common.add_argument(
        '--weights', type=float, nargs='+', help='of the dumps. Default: all the same'
    )
    for name in ('sthv1', 'sthv2', 'jester'):
        something = subparsers.add_parser(name, parents=[common])
        something.add_argument('dumps', type=Path, nargs='+')
        if name != 'sthv2':
            something.add_argument(
                '--labels',
                type=Path,
                default=SHIPPED / f'{name}.txt',
                help='names of the classes in the order of their numbers; for '
                'lists of prepare.py --label-order sorted, their labels.txt. '
                "Default: MMAction2's order",
            )
    epic = subparsers.add_parser('epic', parents=[common])
    epic.add_argument('--verbs', type=Path, nargs='+', required=True)
    epic.add_argument('--nouns', type=Path, nargs='+', required=True)
    return parser.parse_args()


def predict(dumps, args):
    """The mean of some dumps, in the order of the official list."""
    return combine([in_order_of(args.list, load_dump(p)) for p in dumps], args.weights)


def text_of(args):
    if args.leaderboard == 'epic':
        both = [predict(args.verbs, args), predict(args.nouns, args)]
        return submission('epic', both)
    predictions = [predict(args.dumps, args)]
    if args.leaderboard == 'sthv2':
        return submission('sthv2', predictions)
    labels = list_from_file(args.labels, encoding='utf-8-sig')
    try:
        return submission(args.leaderboard, predictions, labels)
    except DumpError as error:
        raise DumpError(f'{args.labels}: {error}') from error


def main():
    args = parse_args()
    try:
        write_text(args.out, text_of(args))
    except (DumpError, OSError) as error:
        sys.exit(f'{Path(__file__).name}: {error}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
