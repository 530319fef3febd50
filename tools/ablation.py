"""The paper's ablation of its modules, on the motion pairs.

A study (tools/study.py) of TSN-R18, plain and with each chosen module. It writes
report.md with a table: top-1, top-1 with the direction ignored, parameters,
multiply-adds and time per clip. What an earlier run finished is not done again;
an interrupted training resumes.

Examples:
    python tools/ablation.py                            # all ten modules
    python tools/ablation.py --modules C ST CinST STinC --seeds 0 1 2
    # the report and its records apart from checkpoints
    python tools/ablation.py --seeds 0 1 2 --out docs/results/motion-pairs
"""

import sys
from pathlib import Path

from aia_mmaction.plugins import PAPER_MODULES
from aia_mmaction.study import PLAIN, Model, Study, run_all, write_report
from aia_mmaction.study.motion_pairs import LABELS, parser, render
from aia_mmaction.utils.files import as_command

REPO = Path(__file__).resolve().parent.parent
CONFIG = REPO / 'configs' / 'tsn_r18_motion-pairs.py'


def parse_args():
    arguments = parser(__doc__, 'work_dirs/ablation')
    arguments.add_argument(
        '--modules',
        nargs='+',
        choices=PAPER_MODULES,
        default=list(PAPER_MODULES),
        metavar='NAME',
        help='out of %(choices)s; default: all. The plain network is always among them',
    )
    return arguments.parse_args()


def main():
    args = parse_args()
    render(args, REPO / 'tools/data/make_motion_pairs.py')
    out = args.out or args.work_dir
    models = [Model(CONFIG, module) for module in (PLAIN, *args.modules)]
    study = Study(
        title='The modules of the paper on the motion pairs',
        command=as_command('python', 'tools/ablation.py', *sys.argv[1:]),
        configs={model.name: model.read(args.cfg_options) for model in models},
        baselines={model.name: models[0].name for model in models},
        runs=run_all(models, args.seeds, args.cfg_options, args.work_dir, out),
        records=out,
        class_names=LABELS.read_text(encoding='utf-8').splitlines(),
    )
    write_report(out, study)


if __name__ == '__main__':
    main()
