r"""How good dumps of `mim test --dump` are, alone, together and compared.

The dumps are of recognizers and datasets with one label for each video.
Prints top-1, top-5 and mean class accuracy with 95 % bootstrap intervals (of
resampled videos) for each dump and for their weighted mean. With --against,
also McNemar's exact p of the difference in top-1 and the classes with the
largest differences.

Examples:
    python tools/ensemble.py cinst_8f.pkl stinc_16f.pkl --weights 1 2
    python tools/ensemble.py cinst.pkl --against plain.pkl \
        --labels data/sthv2/labels.txt
"""

import argparse
import sys
from pathlib import Path

from mmengine.fileio import list_from_file
from rich import box
from rich.console import Console
from rich.table import Table

from aia_mmaction.evaluation.comparison import compare
from aia_mmaction.evaluation.dumps import DumpError, combine, load_dump
from aia_mmaction.evaluation.tables import accuracy_table


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('dumps', type=Path, nargs='+')
    parser.add_argument(
        '--weights', type=float, nargs='+', help='of the dumps. Default: all the same'
    )
    parser.add_argument(
        '--against',
        type=Path,
        nargs='+',
        metavar='DUMP',
        help='compare with the mean of these',
    )
    parser.add_argument(
        '--labels', type=Path, help='names of the classes, one per line'
    )
    parser.add_argument(
        '--classes',
        type=int,
        default=5,
        help='most helped and most hurt to print. Default: 5',
    )
    return parser.parse_args()


def print_difference(found, names, count):
    print(
        f'Right where the other is wrong: {found.gained}; wrong where it is '
        f"right: {found.lost}. McNemar's exact p = {found.p:.2g}."
    )
    table = Table(
        'class', 'videos', 'accuracy', 'against', 'difference', box=box.SIMPLE
    )
    helped = [c for c in found.classes if c.difference > 0][:count]
    hurt = [c for c in found.classes if c.difference < 0][-count:]
    for c in helped + hurt:
        table.add_row(
            names[c.number] if names else str(c.number),
            str(c.videos),
            f'{100 * c.accuracy:.1f}',
            f'{100 * c.other:.1f}',
            f'{100 * c.difference:+.1f}',
        )
    Console(width=120).print(table)


def evaluate(args):
    names = list_from_file(args.labels, encoding='utf-8-sig') if args.labels else None
    dumps = {str(path): load_dump(path) for path in args.dumps}
    mean = combine(list(dumps.values()), args.weights)
    if mean.labels is None:
        raise DumpError(
            'Expected labels in the dumps, got none: their list '
            'has none. tools/submit.py writes what a leaderboard '
            'evaluates.'
        )
    if names and len(names) != mean.scores.shape[1]:
        raise DumpError(
            f'{args.labels}: expected {mean.scores.shape[1]} '
            f'classes, as the dumps have, got {len(names)}.'
        )
    if len(dumps) > 1:
        dumps['their mean'] = mean
    if args.against:
        # In the order of the videos of the others
        others = [load_dump(path) for path in args.against]
        against = combine([mean, *others], [0, *(1 for _ in others)])
        dumps['against'] = against
    Console(width=200).print(accuracy_table(dumps), end='')
    if args.against:
        found = compare(
            mean.scores.argmax(1).numpy(),
            against.scores.argmax(1).numpy(),
            mean.labels.numpy(),
        )
        print_difference(found, names, args.classes)


def main():
    args = parse_args()
    try:
        evaluate(args)
    except (DumpError, OSError) as error:
        sys.exit(f'{Path(__file__).name}: {error}')


if __name__ == '__main__':
    main()
