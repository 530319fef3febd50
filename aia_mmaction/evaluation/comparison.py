"""How good predictions are, with what chance may do to them, and against others."""

from typing import Callable, Dict, List, NamedTuple, Tuple

import numpy as np
from mmaction.evaluation import mean_class_accuracy, top_k_accuracy
from scipy.stats import binomtest, bootstrap

RESAMPLES = 1000

Metric = Callable[[np.ndarray, np.ndarray], float]
METRICS: Dict[str, Metric] = {
    'top-1': lambda scores, labels: top_k_accuracy(scores, labels, (1,))[0],
    'top-5': lambda scores, labels: top_k_accuracy(scores, labels, (5,))[0],
    'mean class accuracy': mean_class_accuracy,
}


def with_interval(
    metric: Metric, scores: np.ndarray, labels: np.ndarray
) -> Tuple[float, float, float]:
    """A metric and its 95 % bootstrap interval, of resampled videos.

    Args:
        metric (Callable): Of :data:`METRICS`.
        scores (np.ndarray): ``[N, classes]``.
        labels (np.ndarray): ``[N]``.

    Returns:
        tuple[float, float, float]: The value, and the ends of the interval, NaN
        where there is only one video.
    """

    def of(rows: np.ndarray) -> float:
        return metric(scores[rows], labels[rows])

    rows = np.arange(len(labels))
    if len(rows) == 1:
        return of(rows), float('nan'), float('nan')
    interval = bootstrap(
        (rows,),
        of,
        vectorized=False,
        n_resamples=RESAMPLES,
        method='percentile',
        random_state=0,
    ).confidence_interval
    return of(rows), interval.low, interval.high


class Difference(NamedTuple):
    """Two models on the same videos, in top-1."""

    gained: int  # right where the other is wrong
    lost: int
    p: float  # of McNemar's exact test
    classes: List['OfClass']  # the most helped first


class OfClass(NamedTuple):
    """Accuracy of two models on the videos of a class."""

    number: int
    videos: int
    accuracy: float
    other: float

    @property
    def difference(self) -> float:
        """How much more the first gets right."""
        return self.accuracy - self.other


def compare(predicted: np.ndarray, other: np.ndarray, labels: np.ndarray) -> Difference:
    """Which of two models gets more videos right, over all and per class.

    Args:
        predicted (np.ndarray): The classes that a model predicts, ``[N]``.
        other (np.ndarray): The same of the model to compare with.
        labels (np.ndarray): ``[N]``.
    """
    right, other_right = predicted == labels, other == labels
    gained = int((right & ~other_right).sum())
    lost = int((~right & other_right).sum())
    p = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    classes = [
        OfClass(int(k), int(of.sum()), right[of].mean(), other_right[of].mean())
        for k in np.unique(labels)
        for of in [labels == k]
    ]
    return Difference(
        gained, lost, p, sorted(classes, key=lambda c: c.difference, reverse=True)
    )
