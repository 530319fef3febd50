"""Studies of the motion pairs, whose videos are rendered first."""

import argparse
import json
import sys
from pathlib import Path

from mmengine.config import DictAction

from aia_mmaction.utils.commands import run_command
from aia_mmaction.utils.files import write_text

DATA = Path('data/motion_pairs')
LABELS = DATA / 'label_map.txt'


def parser(description: str, work_dir: str) -> argparse.ArgumentParser:
    """The arguments of every tool that trains on the motion pairs."""
    shared = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared.add_argument('--seeds', type=int, nargs='+', default=[0])
    shared.add_argument(
        '--work-dir',
        type=Path,
        default=Path(work_dir),
        help='of checkpoints and logs. Default: %(default)s',
    )
    shared.add_argument(
        '--out', type=Path, help='of the report and its records. Default: --work-dir'
    )
    shared.add_argument(
        '--dataset-args',
        nargs=argparse.REMAINDER,
        default=[],
        help='everything after it goes to make_motion_pairs.py',
    )
    shared.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='for all models'
    )
    return shared


def render(args: argparse.Namespace, script: Path) -> None:
    """Render the dataset.

    Args:
        args (Namespace): Of :func:`parser`.
        script (Path): make_motion_pairs.py.

    Raises:
        SystemExit: If the folder has results of other videos.
    """
    paths = [
        folder / 'dataset_args.json'
        for folder in (args.work_dir, args.out or args.work_dir)
    ]
    for path in filter(Path.exists, paths):
        found = json.loads(path.read_text(encoding='utf-8'))
        if found != args.dataset_args:
            raise SystemExit(
                f'{path.parent}: expected results of --dataset-args '
                f'{args.dataset_args}, got results of {found}. Choose another '
                'folder, or delete this one.'
            )
    for path in paths:  # once it is known that all of them will do
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(args.dataset_args))
    run_command(sys.executable, script, DATA, *args.dataset_args)
