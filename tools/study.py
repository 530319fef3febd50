r"""Does it help on your videos? Train several networks alike, and compare them.

Every config is trained with every module, once with each seed, by `mim train`,
and tested by `mim test`; where the dataset's config names classes that are each
other played backwards (reversed_pairs), also on the videos played backwards. A
training that was interrupted resumes, and what is over is not done again.

In --out come report.md with its plots; in --records, as text, the config of each
model and the record of each run, which several reports may share; checkpoints
and logs are in --work-dir.

Examples:
    python tools/study.py configs/tsn_mobilenetv2_utd-mhad.py \
        configs/tsm_mobilenetv2_utd-mhad.py --seeds 0 1 2 --out work_dirs/utd-mhad
    python tools/study.py my_tsn.py --modules plain CinST SE CBAM \
        --labels data/mine/labels.txt --out work_dirs/mine
    python tools/study.py my_tsn.py my_own_attention.py --modules as-is \
        --out work_dirs/mine
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import DictAction
from mmengine.fileio import list_from_file

from aia_mmaction.evaluation.dumps import DumpError
from aia_mmaction.study import MODULES, Model, Study, run_all, write_report
from aia_mmaction.utils.files import as_command, config_file, existing_file

AS_IS = 'as-is'


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', type=config_file, metavar='CONFIG')
    parser.add_argument(
        '--modules',
        nargs='+',
        choices=[AS_IS, *MODULES],
        default=['plain', 'CinST', 'STinC'],
        metavar='NAME',
        help='what to put into each config as its plugins, out of %(choices)s; the '
        'first is what the others are compared with. as-is leaves a config alone, '
        'and compares with the first config. Default: %(default)s',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--out', type=Path, required=True, help='folder of the report')
    parser.add_argument(
        '--records', type=Path, help='of configs and records. Default: --out'
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/study'),
        help='of checkpoints and logs. Default: %(default)s',
    )
    parser.add_argument(
        '--load-from',
        help="checkpoint that every training starts from; '{seed}' in it stands for "
        'the seed',
    )
    parser.add_argument('--title', help="of the report. Default: --out's last part")
    parser.add_argument(
        '--labels',
        type=existing_file,
        help='names of the classes, one per line. Default: numbers',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='for all models'
    )
    return parser.parse_args()


def main():
    args = parse_args()
    modules = [None if name == AS_IS else name for name in args.modules]
    models = [Model(Path(c), module) for c in args.configs for module in modules]
    if len(modules) > 1:
        baselines = {m.name: Model(m.config, modules[0]).name for m in models}
    else:
        baselines = {m.name: models[0].name for m in models}
    names = None
    if args.labels is not None:
        names = list_from_file(args.labels, encoding='utf-8-sig')
        for model in models:
            head = model.read(args.cfg_options).model.cls_head
            if head.num_classes != len(names):
                sys.exit(
                    f'{args.labels}: expected num_classes={head.num_classes} names '
                    f'for {model.config}, got {len(names)}. Give the names of its '
                    'classes, one per line.'
                )
    records = args.records or args.out
    try:
        runs = run_all(
            models, args.seeds, args.cfg_options, args.work_dir, records, args.load_from
        )
    except DumpError as error:
        sys.exit(f'{Path(__file__).name}: {error}')
    configs = {model.name: model.read(args.cfg_options) for model in models}
    if names is None:
        num_classes = 1 + max(
            max(r.labels + r.predicted) for r in sum(runs.values(), [])
        )
        names = list(map(str, range(num_classes)))
    study = Study(
        title=args.title or args.out.resolve().name,
        command=as_command('python', 'tools/study.py', *sys.argv[1:]),
        configs=configs,
        baselines=baselines,
        runs=runs,
        records=records,
        class_names=names,
    )
    write_report(args.out, study)


if __name__ == '__main__':
    main()
