"""MMAction2's datasets with an answer to "and where do I get the data?"."""
import os.path as osp

from mmaction.datasets import RawframeDataset, VideoDataset
from mmaction.registry import DATASETS
from mmengine.fileio import exists


class DataGuide:
    """Mixin that looks for the files of a dataset before it is read.

    Args:
        *args: Passed to the dataset.
        guide (str): Where it says how to get the data, for the error.
        **kwargs: Passed to the dataset.

    Raises:
        FileNotFoundError: If the list file or a folder that the listed
            names are relative to is missing.
    """

    def __init__(self, *args, guide: str, **kwargs) -> None:
        self.guide = guide
        super().__init__(*args, **kwargs)

    def _join_prefix(self) -> None:
        super()._join_prefix()
        # MMEngine's storage backends have files, but not all have folders.
        local = [f for f in self.data_prefix.values() if f and '://' not in f]
        for path in (self.ann_file, *local):
            if path and not exists(path):
                raise FileNotFoundError(
                    f'{type(self).__name__}: expected the data in {path!r}, '
                    f'got nothing there (looked from {osp.abspath(".")}). '
                    f'How to get it: {self.guide}. If it lies elsewhere, set '
                    'ann_file and data_prefix of the dataset.')


@DATASETS.register_module()
class GuidedVideoDataset(DataGuide, VideoDataset):
    """MMAction2's ``VideoDataset``, see :class:`DataGuide`."""


@DATASETS.register_module()
class GuidedRawframeDataset(DataGuide, RawframeDataset):
    """MMAction2's ``RawframeDataset``, see :class:`DataGuide`."""
