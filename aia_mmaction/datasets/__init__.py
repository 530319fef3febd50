"""Datasets and transforms, registered in DATASETS and TRANSFORMS."""

from typing import Any

from aia_mmaction.utils.moved import moved_name

from .benchmark import BenchmarkRawframeDataset, BenchmarkVideoDataset
from .flip_by_label_name import FlipByLabelName
from .reverse_frames import ReverseFrames
from .unreadable import ReadableDecordDecode, ReadableDecordInit, ReadableRawFrameDecode

__all__ = [
    'FlipByLabelName',
    'BenchmarkRawframeDataset',
    'BenchmarkVideoDataset',
    'ReadableDecordDecode',
    'ReadableDecordInit',
    'ReadableRawFrameDecode',
    'ReverseFrames',
]


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name)
