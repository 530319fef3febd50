"""Plain TSN against TSN with CinST on videos that need temporal order.

Renders the motion-pairs dataset, trains both networks with `mim train`, tests
them with `mim test --dump`, and writes report.md with a table and plots. What
an earlier run finished is not done again; an interrupted training resumes.

Examples:
    python tools/demo.py                  # one seed, below 10 minutes
    python tools/demo.py --seeds 0 1 2    # what the README reports
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import mmaction
import mmengine
import numpy as np
import torch
from mmaction.evaluation import ConfusionMatrix

import aia_mmaction

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

REPO = Path(__file__).resolve().parent.parent
MODELS = {
    'TSN-R18': 'tsn_r18_motion-pairs.py',
    'TSN-R18 + CinST': 'tsn_r18_cinst_motion-pairs.py',
}


def run(*command):
    """Run a command that shows its own progress."""
    command = [str(part) for part in command]
    print(f'\n$ {" ".join(command)}', flush=True)
    if subprocess.call(command):
        raise SystemExit(f'The command failed: {" ".join(command)}')


def train_and_test(config, work_dir, seed, cfg_options):
    """Returns the file of the predictions on the test videos."""
    dump = work_dir / 'predictions.pkl'
    if dump.exists():
        print(f'\n{dump} is there.')
        return dump
    mim = (sys.executable, '-m', 'mim')
    options = ('--cfg-options', *cfg_options) if cfg_options else ()
    run(*mim, 'train', 'mmaction', config, '--work-dir', work_dir, '--seed',
        seed, '--resume', *options)
    checkpoint = (work_dir / 'last_checkpoint').read_text().strip()
    draft = work_dir / 'draft.pkl'
    run(*mim, 'test', 'mmaction', config, '--checkpoint', checkpoint,
        '--work-dir', work_dir / 'test', '--dump', draft, *options)
    os.replace(draft, dump)
    return dump


def check_settings(work_dir, settings):
    """Results of other settings must not be taken for results of these."""
    path = work_dir / 'settings.json'
    if path.exists():
        found = json.loads(path.read_text())
        if found != settings:
            raise SystemExit(
                f'{work_dir}: expected results of {settings}, got results of '
                f'{found}. Choose another --work-dir, or delete this one.')
    work_dir.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))


def read_predictions(dump):
    """Scores ``[num_videos, 8]`` and labels ``[num_videos]``."""
    results = mmengine.load(dump)
    scores = torch.stack([result['pred_score'] for result in results])
    labels = torch.cat([result['gt_label'] for result in results])
    return scores, labels


def accuracies(scores, labels):
    """Top-1, and pair accuracy: the motion is right, direction ignored."""
    predicted = scores.argmax(dim=1)
    return {
        'top-1': (predicted == labels).float().mean().item(),
        'pair accuracy': (predicted // 2 == labels // 2).float().mean().item()
    }


def read_curve(work_dir):
    """Validation accuracy after every epoch, over resumed runs too."""
    curve = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            scalars = json.loads(line)
            if 'acc/top1' in scalars:
                curve[scalars['step']] = scalars['acc/top1']
    return sorted(curve.items())


def plot_curves(curves, path):
    figure, axes = plt.subplots(figsize=(6, 4), layout='constrained')
    for colour, (name, runs) in zip(('tab:gray', 'tab:red'), curves.items()):
        for i, curve in enumerate(runs):
            epochs, top1 = zip(*curve)
            axes.plot(epochs,
                      100 * np.array(top1),
                      color=colour,
                      marker='o',
                      label=None if i else name)
    axes.axhline(50, color='black', linestyle=':', linewidth=1)
    axes.annotate('motion right, direction guessed', (1, 51), va='bottom')
    axes.set(xlabel='epoch',
             ylabel='top-1 on the test videos (%)',
             ylim=(0, 101),
             title='Motion pairs')
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc='lower right')
    figure.savefig(path, dpi=120)


def plot_confusion(predictions, classes, path):
    figure, all_axes = plt.subplots(1,
                                    len(predictions),
                                    figsize=(11, 6.6),
                                    layout='constrained')
    for axes, (name, (scores, labels)) in zip(all_axes, predictions.items()):
        matrix = ConfusionMatrix.calculate(scores, labels).float()
        matrix = 100 * matrix / matrix.sum(dim=1, keepdim=True)
        image = axes.imshow(matrix, cmap='Blues', vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(matrix.numpy()):
            if value:
                axes.text(column,
                          row,
                          f'{value:.0f}',
                          ha='center',
                          va='center',
                          color='white' if value > 50 else 'black')
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
        axes.set(title=name, xlabel='predicted')
        axes.label_outer()
    all_axes[0].set_ylabel('true')
    figure.colorbar(image, ax=all_axes, label='% of the class', shrink=0.8)
    figure.savefig(path, dpi=100)


def table(rows):
    """Markdown table of {name: [accuracies of every seed]}."""
    lines = [
        '| model | seeds | top-1 (%) | pair accuracy (%) |',
        '|---|---|---|---|'
    ]
    for name, runs in rows.items():
        cells = []
        for key in ('top-1', 'pair accuracy'):
            values = [100 * run[key] for run in runs]
            each = ', '.join(f'{value:.1f}' for value in values)
            cells.append(each if len(values) ==
                         1 else f'{np.mean(values):.1f} ({each})')
        lines.append(f'| {name} | {len(runs)} | {cells[0]} | {cells[1]} |')
    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--work-dir',
                        type=Path,
                        default=Path('work_dirs/demo'))
    parser.add_argument(
        '--dataset-args',
        nargs=argparse.REMAINDER,
        default=[],
        help='everything after it goes to make_motion_pairs.py')
    parser.add_argument('--cfg-options',
                        nargs='+',
                        default=[],
                        help='passed to mim train and mim test')
    args = parser.parse_args()
    started = time.time()
    check_settings(
        args.work_dir,
        dict(cfg_options=args.cfg_options, dataset_args=args.dataset_args))
    reused = len(list(args.work_dir.glob('*/seed*/predictions.pkl')))

    run(sys.executable, REPO / 'tools/data/make_motion_pairs.py',
        'data/motion_pairs', *args.dataset_args)
    classes = Path('data/motion_pairs/label_map.txt').read_text().splitlines()

    rows, curves, predictions = {}, {}, {}
    for name, config in MODELS.items():
        rows[name], curves[name] = [], []
        for seed in args.seeds:
            work_dir = args.work_dir / Path(config).stem / f'seed{seed}'
            result = read_predictions(
                train_and_test(REPO / 'configs' / config, work_dir, seed,
                               args.cfg_options))
            rows[name].append(accuracies(*result))
            curves[name].append(read_curve(work_dir))
            predictions.setdefault(name, result)  # of the first seed

    plot_curves(curves, args.work_dir / 'learning_curves.png')
    plot_confusion(predictions, classes, args.work_dir / 'confusion.png')
    report = '\n\n'.join([
        '# Motion pairs: does the network see the order of frames?',
        f'{len(classes)} classes, {len(result[1])} test videos. The two '
        'directions of a motion have the same frames, so a network that does '
        'not see their order gets 50 % of what its pair accuracy promises.',
        table(rows),
        '![learning curves](learning_curves.png)',
        f'![confusion matrices, seed {args.seeds[0]}](confusion.png)',
        f'Seeds {", ".join(map(str, args.seeds))}. aia_mmaction '
        f'{aia_mmaction.__version__}, mmaction2 {mmaction.__version__}, '
        f'torch {torch.__version__}, {torch.get_num_threads()} threads, '
        f'{platform.machine()}. This run took {time.time() - started:.0f} s '
        f'and reused {reused} of {len(MODELS) * len(args.seeds)} trained '
        'networks.',
    ]) + '\n'
    draft = args.work_dir / 'draft.md'
    draft.write_text(report)
    os.replace(draft, args.work_dir / 'report.md')
    print(f'\n{table(rows)}\n\nSee {args.work_dir / "report.md"}')


if __name__ == '__main__':
    main()
