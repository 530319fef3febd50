r"""Write a leaderboard's file from what `mim test --dump` wrote.

- sthv1: `id;label text` per line
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
import json
import sys
from pathlib import Path, PurePosixPath

from mmengine.fileio import list_from_file

from aia_mmaction.datasets.flip_by_label_name import SHIPPED
from aia_mmaction.evaluation.dumps import DumpError, combine, in_order_of, load_dump
from aia_mmaction.utils.files import write_text

ACTIONS = 100  # that EPIC-Kitchens takes of a video


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
    for name in ('sthv1', 'sthv2'):
        something = subparsers.add_parser(name, parents=[common])
        something.add_argument('dumps', type=Path, nargs='+')
        if name == 'sthv1':
            something.add_argument(
                '--labels',
                type=Path,
                default=SHIPPED / 'sthv1.txt',
                help='names of the classes in the order of their numbers; for '
                'lists of prepare.py --label-order sorted, their labels.txt. '
                "Default: MMAction2's order",
            )
    epic = subparsers.add_parser('epic', parents=[common])
    epic.add_argument('--verbs', type=Path, nargs='+', required=True)
    epic.add_argument('--nouns', type=Path, nargs='+', required=True)
    return parser.parse_args()


def predict(dumps, args):
    """Probabilities [N, classes] and the videos' identifiers."""
    mean = combine([in_order_of(args.list, load_dump(p)) for p in dumps], args.weights)
    return [PurePosixPath(name).stem for name in mean.names], mean.scores


def sthv1(args):
    labels = list_from_file(args.labels, encoding='utf-8-sig')
    ids, scores = predict(args.dumps, args)
    if scores.shape[1] != len(labels):
        raise DumpError(
            f'{args.labels}: expected {scores.shape[1]} classes, '
            f'as the dumps have, got {len(labels)}.'
        )
    best = scores.argmax(1)
    return ''.join(f'{i};{labels[k]}\n' for i, k in zip(ids, best))


def sthv2(args):
    ids, scores = predict(args.dumps, args)
    best = scores.topk(min(5, scores.shape[1])).indices.tolist()
    return ''.join(f'{i};{";".join(map(str, k))}\n' for i, k in zip(ids, best))


def epic(args):
    ids, verbs = predict(args.verbs, args)
    _, nouns = predict(args.nouns, args)
    results = {}
    for i, verb, noun in zip(ids, verbs, nouns):
        # [verbs, nouns]
        actions = verb[:, None] * noun
        best = actions.flatten().topk(min(ACTIONS, actions.numel()))
        results[i] = dict(
            verb=dict(enumerate(verb.tolist())),
            noun=dict(enumerate(noun.tolist())),
            action={
                f'{k // len(noun)},{k % len(noun)}': p
                for p, k in zip(best.values.tolist(), best.indices.tolist())
            },
        )
    # Supervision levels: pretraining, labels and data of this challenge
    return (
        json.dumps(
            dict(
                version='0.2',
                challenge='action_recognition',
                sls_pt=2,
                sls_tl=3,
                sls_td=3,
                results=results,
            )
        )
        + '\n'
    )


def main():
    args = parse_args()
    try:
        write = dict(sthv1=sthv1, sthv2=sthv2, epic=epic)[args.leaderboard]
        write_text(args.out, write(args))
    except (DumpError, OSError) as error:
        sys.exit(f'{Path(__file__).name}: {error}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
