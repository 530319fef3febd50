r"""From trained models to a leaderboard's file, in one command.

Every model is tested by `mim test`: on the validation list, for the accuracy with
95 % bootstrap intervals of each and of their weighted mean, and on the official
test list, for the submission, which is checked against what the server takes.
What is done is not done again: stopped at any point, the same command goes on.

In --out-dir come a folder for each model with its dumps and logs, the mean's dumps
(val.pkl, test.pkl), accuracy.md, and submission.csv (epic: submission.json).

Examples:
    python tools/leaderboard.py sthv2 --models \
        configs/tsm_r50_cinst_sthv2.py cinst.pth \
        configs/tsm_r50_stinc_sthv2_16f.py stinc.pth \
        --protocol accurate --choose-weights --processes 8 --out-dir work_dirs/sthv2
    python tools/leaderboard.py epic --models verbs.py verbs.pth \
        --noun-models nouns.py nouns.pth --out-dir work_dirs/epic
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import DictAction
from mmengine.fileio import list_from_file
from rich.console import Console

from aia_mmaction.datasets.flip_by_label_name import SHIPPED
from aia_mmaction.datasets.protocols import PROTOCOLS
from aia_mmaction.evaluation.dumps import (
    DumpError,
    check_weights,
    combine,
    in_order_of,
    listed_names,
    save_dump,
)
from aia_mmaction.evaluation.leaderboard import (
    Model,
    Testing,
    choose_weights,
    list_of,
    num_classes_of,
    predict,
)
from aia_mmaction.evaluation.submission import (
    LEADERBOARDS,
    check_classes,
    check_submission,
    submission,
)
from aia_mmaction.evaluation.tables import accuracy_table
from aia_mmaction.utils.files import config_file, existing_file, write_text


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('leaderboard', choices=LEADERBOARDS)
    models = dict(nargs='+', metavar='CONFIG CHECKPOINT')
    parser.add_argument('--models', required=True, **models)
    parser.add_argument('--noun-models', default=[], help='of epic', **models)
    parser.add_argument('--out-dir', type=Path, required=True)
    parser.add_argument(
        '--protocol',
        choices=PROTOCOLS,
        help='clips and crops of each video. Default: what the configs say',
    )
    existing = dict(type=lambda name: Path(existing_file(name)), metavar='LIST')
    parser.add_argument(
        '--test-list', help="default: beside the first config's val list", **existing
    )
    parser.add_argument(
        '--val-list',
        help="of --models; nouns have their own config's. Default: the first config's",
        **existing,
    )
    parser.add_argument(
        '--no-validation', action='store_true', help='go to the test list at once'
    )
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        '--weights', type=float, nargs='+', help='of the models. Default: all the same'
    )
    weights.add_argument(
        '--choose-weights', action='store_true', help='on the validation list'
    )
    parser.add_argument(
        '--labels',
        type=Path,
        help='names of the classes of sthv1 and jester in the order of their numbers. '
        "Default: MMAction2's",
    )
    parser.add_argument(
        '--processes', type=int, default=1, help='GPUs, or processes on a CPU'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    return parser.parse_args()


def models_of(files, option):
    """``[CONFIG, CHECKPOINT, ...]`` as models."""
    if not files or len(files) % 2:
        raise DumpError(
            f'{option}: expected pairs of CONFIG CHECKPOINT, got {len(files)} files: '
            f'{" ".join(files)}.'
        )
    return [
        Model(Path(config_file(config)), Path(existing_file(checkpoint)))
        for config, checkpoint in zip(files[::2], files[1::2])
    ]


def mean_of(models, test_list, val_list, folder, args):
    """The models' mean on the test list, and the accuracies on the validation list."""
    testing = Testing(folder, args.processes, args.protocol, args.cfg_options)
    weights, table = args.weights, None
    if val_list is not None:
        dumps = predict(models, 'val', val_list, testing)
        without = [name for name, dump in dumps.items() if dump.labels is None]
        if without:
            raise DumpError(
                f'{val_list}: expected a label for each video, got some without. Give '
                'another --val-list, or --no-validation.'
            )
        chosen = ''
        if args.choose_weights:
            weights = choose_weights(list(dumps.values()))
            chosen = ', chosen on these videos'
        mean = combine(list(dumps.values()), weights)
        save_dump(folder / 'val.pkl', mean)
        shown = ', '.join(f'{weight:g}' for weight in weights or [1] * len(dumps))
        table = accuracy_table({**dumps, f'their mean ({shown}{chosen})': mean})
    dumps = predict(models, 'test', test_list, testing)
    mean = in_order_of(test_list, combine(list(dumps.values()), weights))
    save_dump(folder / 'test.pkl', mean)
    return mean, table


def groups_of(args):
    """By name: models that are combined, and their validation list if it is given."""
    groups = {'': (models_of(args.models, '--models'), args.val_list)}
    if args.leaderboard == 'epic':
        nouns = models_of(args.noun_models, '--noun-models')
        groups = {'verbs': groups[''], 'nouns': (nouns, None)}
    elif args.noun_models:
        raise DumpError(
            f'--noun-models: expected epic, got {args.leaderboard}, whose models are '
            'all --models. Leave the option out.'
        )
    if args.processes < 1:
        raise DumpError(f'--processes: expected 1 or more, got {args.processes}.')
    if args.choose_weights and args.no_validation:
        raise DumpError(
            '--choose-weights: expected a validation list, got --no-validation. Leave '
            'one of them out.'
        )
    for models, _ in groups.values():
        if args.weights is not None:
            check_weights(args.weights, len(models))
    said = [
        [num_classes_of(model, args.cfg_options) for model in models]
        for models, _ in groups.values()
    ]
    known = [[n for n in group if n is not None] for group in said]
    check_classes(args.leaderboard, known)
    return groups


def labels_of(args):
    """The names of the classes, where the file has names."""
    if args.leaderboard not in ('sthv1', 'jester'):
        return ()
    path = args.labels or SHIPPED / f'{args.leaderboard}.txt'
    labels = list_from_file(path, encoding='utf-8-sig')
    (expected,) = LEADERBOARDS[args.leaderboard].num_classes
    if len(labels) != expected:
        raise DumpError(
            f'{path}: expected the names of {expected} classes, one per line, got '
            f'{len(labels)}. Give the --labels of {args.leaderboard}.'
        )
    return labels


def lists_of(groups, args):
    """The test list and the validation list, if there is one, of each group."""
    lists = {}
    for name, (models, val_list) in groups.items():
        test_list = args.test_list or list_of(models[0], 'test', args.cfg_options)
        if not args.no_validation:
            val_list = val_list or list_of(models[0], 'val', args.cfg_options)
        lists[name] = test_list, None if args.no_validation else val_list
    if len({tuple(listed_names(test_list)) for test_list, _ in lists.values()}) > 1:
        raise DumpError(
            'epic: expected one test list for verbs and nouns, got others. Give '
            '--test-list.'
        )
    return lists


def write(args):
    # What is wrong is to be known before hours of testing.
    groups, labels = groups_of(args), labels_of(args)
    lists = lists_of(groups, args)
    means, report = [], ''
    for name, (models, _) in groups.items():
        mean, table = mean_of(models, *lists[name], args.out_dir / name, args)
        means.append(mean)
        if table is not None:
            console = Console(width=200, record=True)
            console.print(table)
            report += f'# {name}\n' if name else ''
            report += console.export_text()
    if report:
        write_text(args.out_dir / 'accuracy.md', report)
    # Not every config says how many there are.
    check_classes(args.leaderboard, [[mean.scores.shape[1]] for mean in means])
    names = means[0].names
    text = submission(args.leaderboard, means, labels)
    check_submission(args.leaderboard, text, names, labels)
    path = args.out_dir / LEADERBOARDS[args.leaderboard].file_name
    write_text(path, text)
    print(f'wrote {path}: {len(names)} videos, in the form of the server')


def main():
    args = parse_args()
    try:
        write(args)
    except (argparse.ArgumentTypeError, DumpError, OSError) as error:
        sys.exit(f'{Path(__file__).name}: {error}')


if __name__ == '__main__':
    main()
