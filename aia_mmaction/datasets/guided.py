"""MMAction2's datasets with an answer to "and where do I get the data?"."""
import os.path as osp

from mmaction.datasets import RawframeDataset, VideoDataset
from mmaction.registry import DATASETS


class DataGuide:
    """Mixin that looks for the files of a dataset before it is read.

    Args:
        ann_file (str): List file of the dataset.
        *args: Passed to the dataset.
        guide (str): Where it says how to get the data, for the error.
        **kwargs: Passed to the dataset.

    Raises:
        FileNotFoundError: If the list file or a folder that the listed
            names are relative to is missing.
    """

    def __init__(self, ann_file: str, *args, guide: str, **kwargs) -> None:
        folders = [f for f in (kwargs.get('data_prefix') or {}).values() if f]
        for path in (ann_file, *folders):
            if not osp.exists(path):
                raise FileNotFoundError(
                    f'{type(self).__name__}: expected the data in {path!r}, '
                    f'got nothing there (looked from {osp.abspath(".")}). '
                    f'How to get it: {guide}. If it lies elsewhere, set '
                    'ann_file and data_prefix of the dataset.')
        super().__init__(ann_file, *args, **kwargs)


@DATASETS.register_module()
class GuidedVideoDataset(DataGuide, VideoDataset):
    """MMAction2's ``VideoDataset``, see :class:`DataGuide`."""


@DATASETS.register_module()
class GuidedRawframeDataset(DataGuide, RawframeDataset):
    """MMAction2's ``RawframeDataset``, see :class:`DataGuide`."""
