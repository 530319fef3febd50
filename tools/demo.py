"""Plain TSN against TSN with CinST on videos that need temporal order.

Renders the motion-pairs dataset, trains both networks with `mim train`, tests
them with `mim test --dump`, and writes report.md with a table and plots. What
an earlier run finished is not done again; an interrupted training resumes.

Examples:
    python tools/demo.py                  # one seed, below 10 minutes
    python tools/demo.py --seeds 0 1 2    # what the README reports
"""

import json
import time
from pathlib import Path

import matplotlib
import numpy as np
from mmaction.evaluation import ConfusionMatrix

from aia_mmaction.benchmarking.motion_pairs import (
    accuracies,
    parser,
    percent,
    prepare,
    table,
    train_and_test,
    write_report,
)

matplotlib.use('Agg')
import matplotlib.pyplot as plt

REPO = Path(__file__).resolve().parent.parent

MODELS = {
    'TSN-R18': 'tsn_r18_motion-pairs.py',
    'TSN-R18 + CinST': 'tsn_r18_cinst_motion-pairs.py',
}


def read_curve(work_dir):
    """Validation accuracy after every epoch, over resumed runs too."""
    curve = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8').splitlines():
            scalars = json.loads(line)
            if 'acc/top1' in scalars:
                curve[scalars['step']] = scalars['acc/top1']
    return sorted(curve.items())


def plot_curves(curves, path):
    figure, axes = plt.subplots(figsize=(6, 4), layout='constrained')
    for colour, (name, runs) in zip(('tab:gray', 'tab:red'), curves.items()):
        for i, curve in enumerate(runs):
            epochs, top1 = zip(*curve)
            axes.plot(
                epochs,
                100 * np.array(top1),
                color=colour,
                marker='o',
                label=None if i else name,
            )
    axes.axhline(50, color='black', linestyle=':', linewidth=1)
    axes.annotate('motion right, direction guessed', (1, 51), va='bottom')
    axes.set(
        xlabel='epoch',
        ylabel='top-1 on the test videos (%)',
        ylim=(0, 101),
        title='Motion pairs',
    )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc='lower right')
    figure.savefig(path, dpi=120)


def plot_confusion(predictions, classes, path):
    figure, all_axes = plt.subplots(
        1, len(predictions), figsize=(11, 6.6), layout='constrained'
    )
    for axes, (name, (scores, labels)) in zip(all_axes, predictions.items()):
        matrix = ConfusionMatrix.calculate(scores, labels).float()
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
        axes.set(title=name, xlabel='predicted')
        axes.label_outer()
    all_axes[0].set_ylabel('true')
    figure.colorbar(image, ax=all_axes, label='% of the class', shrink=0.8)
    figure.savefig(path, dpi=100)


def main():
    args = parser(__doc__, 'work_dirs/demo').parse_args()
    started = time.time()
    classes = prepare(args, REPO / 'tools/data/make_motion_pairs.py')

    rows, curves, predictions = [], {}, {}
    for name, config in MODELS.items():
        runs, curves[name] = [], []
        for seed in args.seeds:
            work_dir = args.work_dir / Path(config).stem / f'seed{seed}'
            result = train_and_test(
                REPO / 'configs' / config, work_dir, seed, args.cfg_options
            )
            runs.append(accuracies(*result))
            curves[name].append(read_curve(work_dir))
            predictions.setdefault(name, result)  # of the first seed
        rows.append(
            (name, len(runs), percent(runs, 'top-1'), percent(runs, 'pair accuracy'))
        )

    plot_curves(curves, args.work_dir / 'learning_curves.png')
    plot_confusion(predictions, classes, args.work_dir / 'confusion.png')
    results = table(('model', 'seeds', 'top-1 (%)', 'pair accuracy (%)'), rows)
    print(f'\n{results}')
    write_report(
        args.work_dir / 'report.md',
        [
            '# Motion pairs: does the network see the order of frames?',
            f'{len(classes)} classes, {len(result[1])} test videos. The two '
            'directions of a motion have the same frames, so a network that does '
            'not see their order gets 50 % of what its pair accuracy promises.',
            results,
            '![learning curves](learning_curves.png)',
            f'![confusion matrices, seed {args.seeds[0]}](confusion.png)',
        ],
        args,
        started,
    )


if __name__ == '__main__':
    main()
