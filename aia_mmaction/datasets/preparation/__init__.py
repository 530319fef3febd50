"""From what the owners of a benchmark ship to the lists that configs read."""

from .annotations import AnnotationError
from .archives import ArchiveError
from .lists import BENCHMARKS, prepare

__all__ = ['BENCHMARKS', 'AnnotationError', 'ArchiveError', 'prepare']
