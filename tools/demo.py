"""Plain TSN against TSN with CinST on videos that need temporal order.

Renders the motion-pairs dataset, trains both networks with `mim train`, tests
them with `mim test --dump`, and writes report.md with tables and plots. What an
earlier run finished is not done again; an interrupted training resumes.

Examples:
    python tools/demo.py                  # one seed, below 10 minutes
    python tools/demo.py --seeds 0 1 2    # three, with mean and deviation
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from mmaction.evaluation import ConfusionMatrix

from aia_mmaction.study import Model, Study, run_all, write_report
from aia_mmaction.study.motion_pairs import LABELS, parser, render
from aia_mmaction.utils.files import as_command, draft_of

matplotlib.use('Agg')
import matplotlib.pyplot as plt

REPO = Path(__file__).resolve().parent.parent
MODELS = [
    Model(REPO / 'configs' / name)
    for name in ('tsn_r18_motion-pairs.py', 'tsn_r18_cinst_motion-pairs.py')
]


def plot_confusion(records, classes, path):
    figure, all_axes = plt.subplots(
        1, len(records), figsize=(11, 6.6), layout='constrained'
    )
    for axes, record in zip(all_axes, records):
        matrix = ConfusionMatrix.calculate(
            torch.tensor(record.predicted),
            torch.tensor(record.labels),
            num_classes=len(classes),
        ).float()
        matrix = 100 * matrix / matrix.sum(dim=1, keepdim=True)
        image = axes.imshow(matrix, cmap='Blues', vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(matrix.numpy()):
            if value:
                axes.text(
                    column,
                    row,
                    f'{value:.0f}',
                    ha='center',
                    va='center',
                    color='white' if value > 50 else 'black',
                )
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
        axes.set(title=record.model, xlabel='predicted')
        axes.label_outer()
    all_axes[0].set_ylabel('true')
    figure.colorbar(image, ax=all_axes, label='% of the class', shrink=0.8)
    with draft_of(path) as draft:
        figure.savefig(draft, dpi=100)


def main():
    args = parser(__doc__, 'work_dirs/demo').parse_args()
    render(args, REPO / 'tools/data/make_motion_pairs.py')
    classes = LABELS.read_text(encoding='utf-8').splitlines()
    out = args.out or args.work_dir
    runs = run_all(MODELS, args.seeds, args.cfg_options, args.work_dir, out)
    first = [records[0] for records in runs.values()]
    plot_confusion(first, classes, out / 'confusion.png')
    study = Study(
        title='Motion pairs: does the network see the order of frames?',
        command=as_command('python', 'tools/demo.py', *sys.argv[1:]),
        configs={model.name: model.read(args.cfg_options) for model in MODELS},
        baselines={model.name: MODELS[0].name for model in MODELS},
        runs=runs,
        records=out,
        class_names=classes,
    )
    write_report(
        out,
        study,
        f'![confusion matrices, seed {args.seeds[0]}](confusion.png)',
    )


if __name__ == '__main__':
    main()
