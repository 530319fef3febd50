"""What a config's attention adds in parameters and multiply-adds.

The input is what the config's own pipeline makes of a video of 240 x 320
pixels, of optical flow or of a 2-D skeleton, one clip or more. Multiply-adds
are counted by MMEngine, as in the literature: convolutions, linear layers and
norms. Pools, sigmoids and products are left out of such counts; of the
attention they are counted by themselves, one operation per element that a pool
reads or another operation writes.

Examples:
    python tools/complexity.py configs/tsm_r50_cinst_sthv1.py
    python tools/complexity.py configs/tsn_r50_*_sthv2.py --pipeline train
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from rich import box
from rich.console import Console
from rich.table import Table

from aia_mmaction.benchmarking.complexity import measure
from aia_mmaction.utils.files import config_file


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG', type=config_file)
    parser.add_argument(
        '--pipeline',
        choices=['test', 'train'],
        default='test',
        help='whose input is meant; the authors test on '
        'larger frames than they train on. Default: test',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args()


def main():
    args = parse_args()
    init_default_scope('mmaction')
    table = Table(
        'config',
        'input',
        'parameters, plain',
        'attention',
        'multiply-adds, plain',
        'attention',
        'not counted: pools, products',
        box=box.MARKDOWN,
    )
    notes = []
    for path in args.configs:
        try:
            cfg = Config.fromfile(path)
            cfg.merge_from_dict(args.cfg_options or {})
            row, note = measure(cfg, args.pipeline)
        except ValueError as error:
            sys.exit(f'{Path(__file__).name}: {error}')
        table.add_row(Path(path).stem, *row)
        notes.append(f'{Path(path).stem}: {note}')
    Console(width=1000).print(table, end='')
    print('\n'.join(notes))


if __name__ == '__main__':
    main()
