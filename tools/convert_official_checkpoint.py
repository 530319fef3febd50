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
import os
import pickle
import re
import tempfile
from pathlib import Path

import torch
from mmengine.fileio import list_from_file
from mmengine.runner import load_checkpoint

# The import also allow-lists, for weights-only loading, what MMEngine puts
# into its checkpoints.
from aia_mmaction.conversion.official import (
    ConversionError,
    model_config,
    to_authors,
    to_mmaction2,
)
from aia_mmaction.datasets.flip_by_label_name import SHIPPED
from aia_mmaction.plugins import PAPER_MODULES


def check_paths(src, dst):
    if src.is_dir() or not src.exists():
        what = 'a folder' if src.is_dir() else 'no such file'
        raise SystemExit(
            f'{src}: expected a checkpoint file, got {what}. Check the path.'
        )
    if dst.exists() and dst.samefile(src):
        raise SystemExit(
            f'{dst}: expected another file to write to than SRC, got the '
            'same. Choose another DST.'
        )
    if dst.exists():
        raise SystemExit(
            f'{dst}: expected a file that does not exist yet, got '
            f'{"a folder" if dst.is_dir() else "one that does"}. Choose '
            'another DST.'
        )
    if not dst.parent.is_dir():
        raise SystemExit(
            f'{dst}: expected an existing folder to write to, got '
            f'{dst.parent}. Create it first.'
        )


def read_checkpoint(path):
    """Returns the file's dict, a bare state dict as dict(state_dict=...)."""
    try:
        file = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a broken file can raise nearly anything
        refused = re.search(r'GLOBAL (\S+)', str(error))
        if isinstance(error, pickle.UnpicklingError) and refused:
            raise SystemExit(
                f'{path}: expected tensors and plain values, got a pickle of '
                f'{refused[1]}, which could run code. If you trust the file, '
                'load it where it was made and save only its state_dict.'
            ) from error
        raise SystemExit(
            f'{path}: expected a checkpoint of torch.save, got a file that '
            f'torch.load cannot read ({type(error).__name__}: '
            f'{str(error).strip().splitlines()[0][:80] if str(error) else ""}'
            '). It may be truncated: compare its size, and get it again.'
        ) from error
    if isinstance(file, dict) and 'state_dict' not in file:
        file = dict(state_dict=file)
    state_dict = file['state_dict'] if isinstance(file, dict) else None
    if not (
        isinstance(state_dict, dict)
        and state_dict
        and all(
            isinstance(key, str) and isinstance(value, torch.Tensor)
            for key, value in state_dict.items()
        )
    ):
        keys = (
            f' with {", ".join(list(map(str, state_dict))[:4])}'
            if (isinstance(state_dict, dict))
            else ''
        )
        raise SystemExit(
            f'{path}: expected a state_dict of named tensors, bare or under '
            f'the key state_dict, got a {type(file).__name__}{keys}. Is it a '
            'checkpoint?'
        )
    return file


def read_labels(path):
    """Class names in the order of the file."""
    try:
        # A byte order mark would become part of the first name.
        text = path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise SystemExit(
            f'{path}: expected class names in UTF-8, got {error}. Is it the '
            'label file? Save it as UTF-8.'
        ) from error
    except OSError as error:
        raise SystemExit(
            f'{path}: expected a label file, got {error.strerror}. Check the path.'
        ) from error
    labels = [line.rstrip() for line in text.split('\n')]
    if text.endswith('\n'):
        labels.pop()
    if '' in labels:
        raise SystemExit(
            f'{path}: expected one class name per line, got an empty line '
            f'{labels.index("") + 1}. Remove it.'
        )
    duplicates = {name for name in labels if labels.count(name) > 1}
    if duplicates:
        raise SystemExit(
            f'{path}: expected every class name once, got '
            f'{min(duplicates)!r} {labels.count(min(duplicates))} times. '
            'Give the label file, not a list of videos.'
        )
    official = list_from_file(SHIPPED / 'sthv1.txt')
    if set(labels) == set(official) and labels not in (official, sorted(official)):
        raise SystemExit(
            f'{path}: expected the names of Something-Something V1 in the '
            'order of the official label file (Holding something, Turning '
            'something upside down, ...), got them in another. Take the '
            'official file.'
        )
    if labels == sorted(labels):
        raise SystemExit(
            f"{path}: expected names in another order than the authors', "
            'who sort them, got sorted names, which would change nothing. '
            'Leave --label-order out.'
        )
    return labels


def write_checkpoint(checkpoint, dst, recognizer=None):
    """Write DST as a whole or not at all, checked by loading it."""
    try:
        with tempfile.TemporaryDirectory(prefix='.convert_', dir=dst.parent) as folder:
            draft = Path(folder) / dst.name
            torch.save(checkpoint, draft)
            if recognizer is not None:
                load_checkpoint(
                    recognizer,
                    str(draft),
                    map_location='cpu',
                    strict=True,
                    logger='silent',
                )
            os.replace(draft, dst)
    # A full disk is a RuntimeError of torch.save.
    except (OSError, RuntimeError) as error:
        raise SystemExit(
            f'{dst}: expected to write a checkpoint there and to load it, '
            f'got {type(error).__name__}: {error}. Make sure that the folder '
            'can be written to and has space left.'
        ) from error


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
    check_paths(args.src, args.dst)
    labels = read_labels(args.label_order) if args.label_order else None
    file = read_checkpoint(args.src)
    recognizer = None
    try:
        if args.reverse:
            network, converted = to_authors(file, args.module, labels)
        else:
            recognizer, network, converted = to_mmaction2(
                file['state_dict'], args.module, labels, args.backbone
            )
    except ConversionError as error:
        raise SystemExit(f'{args.src}: {error}') from error
    report(args.src, file, network, args)
    write_checkpoint(converted, args.dst, recognizer)
    print(f'Wrote {args.dst}')


if __name__ == '__main__':
    main()
