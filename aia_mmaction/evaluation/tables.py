"""What commands print of predictions."""

from typing import Mapping

from rich import box
from rich.table import Table

from .comparison import METRICS, with_interval
from .dumps import Predictions


def accuracy_table(dumps: Mapping[str, Predictions]) -> Table:
    """Accuracies with 95 % bootstrap intervals, in percent.

    Args:
        dumps (Mapping[str, Predictions]): By name, with labels.
    """
    table = Table('', *METRICS, box=box.MARKDOWN)
    for name, dump in dumps.items():
        assert dump.labels is not None
        scores, labels = dump.scores.numpy(), dump.labels.numpy()
        cells = []
        for metric in METRICS.values():
            value, low, high = (100 * x for x in with_interval(metric, scores, labels))
            cells.append(f'{value:.1f} [{low:.1f}, {high:.1f}]')
        table.add_row(name, *cells)
    return table
