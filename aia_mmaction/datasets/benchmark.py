"""MMAction2's datasets, as the benchmark configs use them."""

import os.path as osp
from typing import TYPE_CHECKING, List, Optional, Sequence

from mmaction.datasets import RawframeDataset, VideoDataset
from mmaction.datasets.base import BaseActionDataset
from mmaction.registry import DATASETS
from mmengine.fileio import exists

from .protocols import with_protocol


class Benchmark(BaseActionDataset if TYPE_CHECKING else object):  # type: ignore[misc]
    """Mixin that knows where the data is from and how it is tested.

    Args:
        *args: Passed to the dataset.
        pipeline (Sequence[dict]): The pipeline.
        guide (str): Where it says how to get the data, for the error.
        protocol (str, optional): Name of a test protocol, ``'efficient'``,
            ``'accurate'`` or ``'authors'``, that replaces sampling, resizing
            and cropping in the pipeline. Defaults to None.
        **kwargs: Passed to the dataset.

    Raises:
        FileNotFoundError: If the list file or a folder that the listed
            names are relative to is missing.
        ValueError: If the protocol is unknown or does not fit the pipeline.
    """

    def __init__(
        self,
        *args,
        pipeline: Sequence[dict],
        guide: str,
        protocol: Optional[str] = None,
        **kwargs,
    ) -> None:
        self.guide = guide
        if protocol is not None:
            pipeline = with_protocol(pipeline, protocol)
        super().__init__(*args, pipeline=pipeline, **kwargs)

    def load_data_list(self) -> List[dict]:
        """MMAction2's own, if there is anything to load.

        Raises:
            FileNotFoundError: If there is not, with the way to get it.
        """
        # MMEngine's storage backends have files, but not all have folders.
        local = [f for f in self.data_prefix.values() if f and '://' not in f]
        for path in (self.ann_file, *local):
            if path and not exists(path):
                raise FileNotFoundError(
                    f'{type(self).__name__}: expected the data in {path!r}, '
                    f'got nothing there (looked from {osp.abspath(".")}). '
                    f'How to get it: {self.guide}. If it lies elsewhere, set '
                    'ann_file and data_prefix of the dataset.'
                )
        return super().load_data_list()


@DATASETS.register_module()
class BenchmarkVideoDataset(Benchmark, VideoDataset):
    """MMAction2's ``VideoDataset``, see :class:`Benchmark`."""


@DATASETS.register_module()
class BenchmarkRawframeDataset(Benchmark, RawframeDataset):
    """MMAction2's ``RawframeDataset``, see :class:`Benchmark`."""
