"""Pictures of a study."""

from pathlib import Path
from typing import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aia_mmaction.utils.files import draft_of

from .runs import Record

# 20, the strong ones first: the paper has ten modules.
COLORS = colormaps['tab20']([*range(0, 20, 2), *range(1, 20, 2)])


def _save(figure: Figure, path: Path) -> None:
    with draft_of(path) as draft:
        FigureCanvasAgg(figure).print_png(str(draft))


def _legend(figure: Figure, axes: Axes) -> None:
    """Below the plots, where it hides nothing."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc='outside lower center', ncols=2, fontsize=8)


def plot_curves(runs: Mapping[str, Sequence[Record]], path: Path) -> None:
    """Loss and accuracy in training, means over the seeds."""
    figure = Figure(figsize=(11, 5.5), layout='constrained', dpi=100)
    for axes, key, label in zip(
        figure.subplots(1, 2),
        ('loss', 'top1_acc'),
        ('loss', 'top-1 on the training batches'),
    ):
        axes.set_prop_cycle(color=COLORS)
        for name, records in runs.items():
            curves = [
                {line['step']: line[key] for line in record.curve if key in line}
                for record in records
            ]
            steps = sorted(set.intersection(*(set(curve) for curve in curves)))
            values = np.mean([[c[step] for step in steps] for c in curves], axis=0)
            axes.plot(steps, values, label=name)
        axes.set(xlabel='iteration', ylabel=label)
    _legend(figure, axes)
    _save(figure, path)


def plot_tradeoff(
    milliseconds: Mapping[str, float], top1: Mapping[str, float], path: Path
) -> None:
    """Accuracy over time per clip."""
    figure = Figure(figsize=(7, 5.5), layout='constrained', dpi=100)
    axes = figure.subplots()
    axes.set_prop_cycle(color=COLORS)
    for name, value in top1.items():
        axes.plot(milliseconds[name], 100 * value, 'o', label=name)
    axes.set(xlabel='ms per clip on a CPU', ylabel='top-1 (%)')
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    _legend(figure, axes)
    _save(figure, path)
