r"""Convert a checkpoint of the AIA authors to MMAction2's layout, or back.

TSN (`C2D`) and TSM, ResNet-50 and ResNet-101, each of the paper's ten modules
or none. Depth and module are read off the key names, and the matching config
line is printed. Every key must find its place with its shape; DST is written
only if MMEngine then loads it strictly.

Key names cannot tell TSN from TSM, whose shift has no weights: name the one
with --backbone. Only files of the original TSM repository, whose names have
`.net`, say so themselves.

Nor can they tell CinST from STinC, C2ST from CplusST, or CinST2STinC,
STinC2CinST and STinCplusCinST from each other: name the one with --module.
Of two modules, `eft1` is the one that the name says first.

Something-Something V1: the authors number the classes in sorted order,
MMAction2 in the order of the official label file. Give that file, one name per
line, to --label-order. V2 is sorted in both and needs none.

Only weights are carried over, no training state.

Examples:
    python tools/convert_official_checkpoint.py authors.pth.tar aia.pth \
        --backbone tsm --module CinST
    python tools/convert_official_checkpoint.py authors.pth.tar aia.pth \
        --backbone tsn --module CinST \
        --label-order something-something-v1-labels.csv
    python tools/convert_official_checkpoint.py epoch_50.pth authors.pth.tar \
        --reverse
"""

import argparse
import sys
from pathlib import Path

from aia_mmaction.conversion.files import (
    FileError,
    check_paths,
    read_checkpoint,
    read_labels,
    write_checkpoint,
)
from aia_mmaction.conversion.official import (
    ConversionError,
    model_config,
    to_authors,
    to_mmaction2,
)
from aia_mmaction.plugins import PAPER_MODULES


def as_code(value):
    if isinstance(value, dict):
        items = ', '.join(f'{key}={as_code(v)}' for key, v in value.items())
        return f'dict({items})'
    return repr(value)


def report(src, file, network, args):
    """Say what was found, and what the file cannot say."""
    print(f'{src}: {network}')
    if not args.reverse:
        print(f'Config: model = {as_code(model_config(network))}')
        print(
            'num_segments of backbone and head is not in the file: give '
            'the frames per clip that it was trained with.'
        )
    left_out = [str(key) for key in file if key not in ('state_dict', 'meta')]
    if left_out:
        print(f'Left out, training state: {", ".join(left_out)}.')
    known = 'converted_from_authors' in (file.get('meta') or {})
    if network.num_classes == 174 and not args.label_order and not known:
        print(
            'If this is Something-Something V1 (V2 has 174 classes too), '
            'the order of the classes is wrong without --label-order.'
        )
    if args.reverse and 'plus' in ''.join(network.modules):
        print(
            'The first branch of each ParallelAttention becomes eft1: it is '
            f'taken for {network.modules[0].split("plus")[0]}. Check that '
            'the config has the branches in that order.'
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', type=Path, help='checkpoint to convert')
    parser.add_argument('dst', type=Path, help='file to write, a new one')
    parser.add_argument(
        '--module',
        choices=PAPER_MODULES,
        metavar='NAME',
        help=f'one of {", ".join(PAPER_MODULES)}; needed where the keys fit several',
    )
    parser.add_argument(
        '--backbone',
        choices=['tsn', 'tsm'],
        help='needed where the keys cannot say it, which is nearly always',
    )
    parser.add_argument(
        '--label-order',
        type=Path,
        metavar='LABELS',
        help="class names in MMAction2's order, one per line",
    )
    parser.add_argument(
        '--reverse', action='store_true', help="from MMAction2's layout to the authors'"
    )
    args = parser.parse_args()
    try:
        convert(args)
    except FileError as error:
        sys.exit(str(error))
    except ConversionError as error:
        sys.exit(f'{args.src}: {error}')


def convert(args):
    check_paths(args.src, args.dst)
    labels = read_labels(args.label_order) if args.label_order else None
    file = read_checkpoint(args.src)
    recognizer = None
    if args.reverse:
        network, converted = to_authors(file, args.module, labels)
    else:
        recognizer, network, converted = to_mmaction2(
            file['state_dict'], args.module, labels, args.backbone
        )
    report(args.src, file, network, args)
    write_checkpoint(converted, args.dst, recognizer)
    print(f'Wrote {args.dst}')


if __name__ == '__main__':
    main()
