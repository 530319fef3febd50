"""Datasets, registered in DATASETS."""
from .guided import GuidedRawframeDataset, GuidedVideoDataset

__all__ = ['GuidedRawframeDataset', 'GuidedVideoDataset']
