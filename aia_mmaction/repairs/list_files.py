"""Tabs, blank lines and byte order marks in the lists that datasets read."""

from typing import List

from .repair import Repair


def _lists_are_misread() -> bool:
    """Read a list with a byte order mark, a tab and a blank line."""
    import tempfile
    from pathlib import Path

    from mmaction.datasets import VideoDataset

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'list.txt'
        path.write_bytes('\ufeffa.mp4\t1\n\nb c.mp4 2\n'.encode())
        try:
            dataset = VideoDataset(str(path), pipeline=[], serialize_data=False)
        except ValueError:
            return True
    found = [(sample['filename'], sample['label']) for sample in dataset.data_list]
    return found != [('a.mp4', 1), ('b c.mp4', 2)]


def _read_lists_well() -> None:
    from mmaction.datasets import (
        AVADataset,
        AVAKineticsDataset,
        RawframeDataset,
        VideoDataset,
    )

    def load_videos(self) -> List[dict]:
        """Load the list: ``path label`` in each line."""
        return _samples(self, 'filename', self.data_prefix['video'], self.delimiter)

    def load_frames(self) -> List[dict]:
        """Load the list: ``folder [offset] total_frames label`` in each line."""
        frames = ('offset', 'total_frames') if self.with_offset else ('total_frames',)
        return _samples(self, 'frame_dir', self.data_prefix['img'], ' ', frames)

    VideoDataset.load_data_list = load_videos
    RawframeDataset.load_data_list = load_frames
    for people in (AVADataset, AVAKineticsDataset):
        people.load_data_list = _with_check(people.load_data_list)


def _samples(dataset, key, prefix, delimiter, frames=()) -> List[dict]:
    import os.path as osp

    from aia_mmaction.datasets.list_file import read_list

    samples = []
    for entry in read_list(
        dataset.ann_file, len(frames), delimiter, dataset.multi_class
    ):
        labels = entry.numbers[len(frames) :]
        # Without a label, -1 says so; of several, none may be meant.
        label = labels if dataset.multi_class else (labels or [-1])[0]
        samples.append(
            {
                key: entry.name if prefix is None else osp.join(prefix, entry.name),
                **dict(zip(frames, entry.numbers)),
                'label': label,
            }
        )
    return samples


def _with_check(load_records):
    from functools import wraps

    @wraps(load_records)
    def load_people(self) -> List[dict]:
        try:
            samples = load_records(self)
        except (IndexError, ValueError):
            _check_people(self)
            raise
        if not getattr(self, 'multilabel', True):  # any number is taken
            _check_people(self)
        return samples

    return load_people


def _check_people(dataset) -> None:
    """Name the first line of an AVA file that cannot be meant.

    Raises:
        ListFileError: If there is one.
    """
    from mmengine.fileio import list_from_file

    from aia_mmaction.datasets.list_file import ListFileError

    for number, line in enumerate(list_from_file(dataset.ann_file), 1):
        fields = line.split(',')
        if len(fields) < 8 or not fields[6].isdigit():
            what = 'video,second,x1,y1,x2,y2,label,person'
        elif not dataset.custom_classes and int(fields[6]) >= dataset.num_classes:
            what = f'a label from 0 to {dataset.num_classes - 1}'
        else:
            continue
        raise ListFileError(
            f'{dataset.ann_file}, line {number}: expected {what}, got {line!r}. '
            'Set num_classes of dataset and head, or write the file again.'
        )


REPAIR = Repair(
    symptom='A list file with tabs, blank lines, spaces in a name or a byte order '
    'mark is misread, or ends in an error that names neither file nor line (of AVA '
    'also a label beyond num_classes)',
    affected='mmaction2 1.2.0',
    is_broken=_lists_are_misread,
    mend=_read_lists_well,
)
