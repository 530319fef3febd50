"""Tables and pictures of what was measured, and on what machine."""

import os
from pathlib import Path
from typing import Any, Dict, Sequence

import torch
from mmengine.utils.dl_utils import collect_env
from rich import box
from rich.console import Console
from rich.table import Table

from aia_mmaction import __version__
from aia_mmaction.utils.files import draft_of

from .timing import Row, Setting


def environment(setting: Setting) -> Dict[str, Any]:
    """The machine and the versions, without the paths of collect_env."""
    env = collect_env()
    keys = [k for k in env if k.startswith('GPU ')]
    keys += ['Python', 'PyTorch', 'CUDA available']
    found = {key: str(env[key]) for key in keys if key in env}
    return dict(
        found,
        cpu=cpu_name(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        vectors=torch.backends.cpu.get_cpu_capability(),
        aia_mmaction=__version__,
        device=str(setting.device),
        amp=str(setting.dtype),
        channels_last=setting.channels_last,
        repeats=setting.repeats,
    )


def cpu_name() -> str:
    """The processor, as Linux calls it."""
    path = Path('/proc/cpuinfo')
    if path.exists():
        for line in path.read_text(encoding='utf-8').splitlines():
            name, _, value = line.partition(':')
            if name.strip() == 'model name':
                return value.strip()
    return 'unknown'


def print_table(rows: Sequence[Row]) -> None:
    """Markdown; a metric's ratio stands in brackets behind it."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    ratios = {c for c in columns if c.endswith(' ratio')}
    table = Table(*(c for c in columns if c not in ratios), box=box.MARKDOWN)
    for row in rows:
        cells = []
        for column in columns:
            if column in ratios:
                continue
            value = row.get(column, '')
            cell = f'{value:.2f}' if isinstance(value, float) else str(value)
            ratio = row.get(column.rpartition(' (')[0] + ' ratio')
            cells.append(cell if ratio is None else f'{cell} (×{ratio:.2f})')
        table.add_row(*cells)
    Console(width=1000).print(table, end='')


def plot(rows: Sequence[Row], path: Path) -> None:
    """Bars of the ratios to the plain network, or of layers to the reference.

    Raises:
        ValueError: If there are none.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    metrics = list(
        dict.fromkeys(k for row in rows for k in row if k.endswith(' ratio'))
    )
    if not metrics:
        raise ValueError(
            '--plot: expected ratios to the reference, got layers without it. '
            'Add reference to --impl.'
        )
    base = 'plain' if 'config' in rows[0] else 'reference'
    name = 'config' if base == 'plain' else 'layer'
    rows = [row for row in rows if row['variant'] != base and metrics[0] in row]
    groups = list(dict.fromkeys((r[name], r['input']) for r in rows))
    variants = list(dict.fromkeys(r['variant'] for r in rows))
    figure, axes = pyplot.subplots(
        1,
        len(metrics),
        squeeze=False,
        layout='constrained',
        figsize=(4 * len(metrics), 1.5 + 0.3 * len(groups) * len(variants)),
    )
    height = 0.8 / len(variants)
    for axis, metric in zip(axes[0], metrics):
        for i, variant in enumerate(variants):
            values = {
                (r[name], r['input']): r[metric]
                for r in rows
                if r['variant'] == variant
            }
            bars = axis.barh(
                [n + i * height for n in range(len(groups))],
                [values[group] for group in groups],
                height,
                label=variant,
            )
            axis.bar_label(bars, fmt='×%.2f', padding=2, fontsize=8)
        axis.axvline(1, color='black', linewidth=1)
        axis.set_yticks(
            [n + 0.4 - height / 2 for n in range(len(groups))],
            [f'{c}\n{s}' for c, s in groups]
            if axis is axes[0, 0]
            else [''] * len(groups),
            fontsize=8,
        )
        axis.set_title(metric.replace(' ratio', f', {base} = 1'), fontsize=10)
        axis.margins(x=0.15)
        axis.invert_yaxis()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside upper center', ncols=len(labels))
    with draft_of(path) as draft:
        figure.savefig(draft, dpi=120)
