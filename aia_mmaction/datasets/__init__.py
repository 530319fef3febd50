"""Datasets and transforms, registered in DATASETS and TRANSFORMS."""

from .flip_by_label_name import FlipByLabelName
from .guided import GuidedRawframeDataset, GuidedVideoDataset
from .unreadable import ReadableDecordDecode, ReadableDecordInit, ReadableRawFrameDecode

__all__ = [
    'FlipByLabelName',
    'GuidedRawframeDataset',
    'GuidedVideoDataset',
    'ReadableDecordDecode',
    'ReadableDecordInit',
    'ReadableRawFrameDecode',
]
