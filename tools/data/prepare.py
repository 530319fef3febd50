"""Make the list files of a benchmark from what its owners ship.

SOURCE is a folder with everything that you downloaded, archives or unpacked:

- sthv1: frames (20bn-something-something-v1-00, ...) and the CSV files
- sthv2: videos (20bn-something-something-v2-00, ...) and the JSON files
- jester: frames (20bn-jester-v1-00, ...) and the CSV files
- diving48: videos, Diving48_V2_train.json, Diving48_V2_test.json and
  Diving48_vocab.json
- egtea: cropped clips, train_split1.txt, ..., action_idx.txt

Archives are unpacked below the target folder, and what is unpacked already is
linked. Every video is checked (first, middle and last frame are decoded); what
is broken or missing is left out and listed in unreadable.txt. The lists are
those that the configs read; labels.txt beside them has the names of the
classes. Run it again to continue after an interruption, or when a file was
replaced: only what has changed is checked again.

Examples:
    python tools/data/prepare.py sthv2 ~/downloads/sthv2
    python tools/data/prepare.py sthv1 ~/downloads/sthv1 --label-order sorted
    python tools/data/prepare.py egtea /mnt/egtea --target data/egtea
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path, PurePosixPath

import annotations
from annotations import AnnotationError
from archives import ArchiveError, unpack
from checking import check, check_frames, check_video
from rich import box
from rich.console import Console
from rich.table import Table

from aia_mmaction.utils.files import write_text

BENCHMARKS = ('sthv1', 'sthv2', 'jester', 'diving48', 'egtea')
OF_FRAMES = ('sthv1', 'jester')  # published as folders of pictures


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('benchmark', choices=BENCHMARKS)
    parser.add_argument('source', type=Path, help='what you downloaded')
    parser.add_argument(
        '--target',
        type=Path,
        help='folder of the lists. Default: data/BENCHMARK, where the configs look',
    )
    parser.add_argument(
        '--label-order',
        choices=['mmaction2', 'sorted'],
        default='mmaction2',
        help='of Something-Something and Jester: as in the label file '
        '(the default) or sorted, as the authors of TSM and '
        'AIA do',
    )
    parser.add_argument(
        '--with-test-labels',
        action='store_true',
        help='of sthv2, to label its test list by test-answers.csv, which '
        'newer packages bring',
    )
    parser.add_argument(
        '--num-workers',
        type=int,
        default=os.cpu_count(),
        help='processes that check. Default: one per core',
    )
    return parser.parse_args()


def link_media(benchmark, names, source, target):
    """Link the folder that the names are relative to into the target."""
    link = target / ('rawframes' if benchmark in OF_FRAMES else 'videos')
    if link.exists():
        return link
    # A few may be missing: where most of the first hundred are, is the folder.
    probes = {PurePosixPath(name).name: name for name in names[:100]}
    folders = {}
    for top in (source, target / 'unpacked'):
        for folder, below, files in os.walk(top):
            found = probes.keys() & {*below, *files}
            for name in found:
                depth = len(PurePosixPath(probes[name]).parts)
                root = (Path(folder) / name).parents[depth - 1]
                if root / probes[name] == Path(folder) / name:
                    folders[root] = folders.get(root, 0) + 1
            if found:
                below.clear()  # there may be millions of frames
    if not folders:
        raise FileNotFoundError(
            f'Expected the videos or their archives in {source}, got no '
            f'{names[0]} there or below. Give the folder that you downloaded '
            'them to.'
        )
    link.unlink(missing_ok=True)  # a link to what is gone
    link.symlink_to(max(folders, key=folders.get).resolve())
    return link


def check_names(names):
    """Names come from a download and end in paths and lists."""
    for name in names:
        if (
            PurePosixPath(name).is_absolute()
            or '..' in name.split('/')
            or len(name.split()) != 1
        ):
            raise AnnotationError(
                'Expected names of videos without spaces and "..", got '
                f'{name!r}. Do not trust this file.'
            )


def list_line(benchmark, name, frames, number):
    parts = [name]
    if benchmark in OF_FRAMES:
        parts.append(frames)
    if number is not None:
        parts.append(number)
    return ' '.join(map(str, parts)) + '\n'


def prepare(benchmark, source, target, num_workers, **options):
    """Make the lists; ``options`` are those of the reader of the annotations."""
    read = partial(getattr(annotations, benchmark), **options)
    if not source.is_dir():
        raise FileNotFoundError(
            f'Expected a folder with the download, got {source}. Check the path.'
        )
    target.mkdir(parents=True, exist_ok=True)
    unpack(source, target / 'unpacked')
    try:
        found = read(source)
    except AnnotationError:
        if not (target / 'unpacked').exists():
            raise
        found = read(target / 'unpacked')
    names = list(dict.fromkeys(n for s in found.splits for n in s.videos))
    check_names(names)
    media = link_media(benchmark, names, source, target)
    function = check_frames if benchmark in OF_FRAMES else check_video
    checked = check(media, names, function, target / '.checked.jsonl', num_workers)

    write_text(target / 'labels.txt', '\n'.join(found.labels) + '\n')
    broken = {n: checked[n].reason for n in names if checked[n].reason}
    write_text(
        target / 'unreadable.txt',
        ''.join(f'{n}: {reason}\n' for n, reason in broken.items()),
    )
    table = Table('list', 'videos', 'unreadable', 'published', box=box.SIMPLE)
    for split in found.splits:
        good = {n: k for n, k in split.videos.items() if n not in broken}
        write_text(
            target / split.list_file,
            ''.join(
                list_line(benchmark, n, checked[n].frames, k) for n, k in good.items()
            ),
        )
        table.add_row(
            split.list_file,
            f'{len(good):,}',
            f'{len(split.videos) - len(good):,}',
            f'{split.published:,}' if split.published else '',
        )
    if found.published:
        table.add_row(
            'all different videos',
            f'{len(names) - len(broken):,}',
            f'{len(broken):,}',
            f'{found.published:,}',
        )
    Console().print(table)
    if broken:
        print(
            f'{len(broken):,} unreadable videos are left out; see '
            f'{target / "unreadable.txt"}.'
        )
    if len(broken) == len(names):
        raise FileNotFoundError(
            f'Expected videos in {media}, got none that can be read; the '
            f'first one: {next(iter(broken.items()))}.'
        )
    if options.get('label_order') == 'sorted' and benchmark != 'sthv2':
        print(
            'The classes are sorted: in the config, set '
            f"dict(type='FlipByLabelName', labels='{target}/labels.txt')."
        )


def main():
    args = parse_args()
    target = args.target or Path('data') / args.benchmark
    options = {}
    if args.benchmark in ('sthv1', 'sthv2', 'jester'):
        options['label_order'] = args.label_order
    if args.with_test_labels:
        if args.benchmark != 'sthv2':
            sys.exit(
                f'--with-test-labels: expected sthv2, got {args.benchmark}, of which '
                'no test labels are published. Leave the option out.'
            )
        options['with_test_labels'] = True
    try:
        prepare(args.benchmark, args.source, target, args.num_workers, **options)
    except (AnnotationError, ArchiveError, OSError) as error:
        sys.exit(f'{Path(__file__).name}: {error}')


if __name__ == '__main__':
    main()
