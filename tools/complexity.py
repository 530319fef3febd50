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
import math
import sys
from pathlib import Path
from typing import NamedTuple

from mmengine.analysis import FlopAnalyzer, parameter_count
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from aia_mmaction.benchmarking.untrained import build_untrained
from aia_mmaction.checks.num_segments import wrong_num_segments
from aia_mmaction.datasets.example import example_inputs
from aia_mmaction.plugins import attention_layers
from aia_mmaction.utils.files import config_file

# What reads all of a pooled map, and what writes all of a product
POOLS = ('aten::amax', 'aten::max', 'aten::mean', 'aten::sum')
ELEMENTWISE = ('aten::add', 'aten::div', 'aten::mul', 'aten::sigmoid')


class Cost(NamedTuple):
    parameters: int
    multiply_adds: int


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


class Scores(nn.Module):
    """A recognizer from its input to the scores of the classes."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model.extract_feat(x, stage='head')[0]


def analyzer(model, x):
    return (
        FlopAnalyzer(Scores(model), x)
        .unsupported_ops_warnings(False)
        .uncalled_modules_warnings(False)
    )


def cost(model, x):
    return Cost(parameter_count(model)[''], int(analyzer(model, x).total()))


def count(values):
    return math.prod(values.type().sizes())


def attention_operations(model, x):
    """What the count of multiply-adds leaves out, in the attention alone."""
    flops = analyzer(model, x)
    for name in POOLS:
        flops.set_op_handle(name, lambda inputs, outputs: count(inputs[0]))
    for name in ELEMENTWISE:
        flops.set_op_handle(name, lambda inputs, outputs: count(outputs[0]))
    operations = 0
    for name, _ in attention_layers(model):
        by_operator = flops.by_module_and_operator()[f'model.{name}']
        operations += sum(
            n
            for operator, n in by_operator.items()
            if f'aten::{operator}' in POOLS + ELEMENTWISE
        )
    return int(operations)


def parts(model, x):
    """Parameters and multiply-adds of the attention, by kind of module."""
    by_module = analyzer(model, x).by_module()
    parameters = parameter_count(model)
    found = {}
    for name, layer in attention_layers(model):
        for inner, module in layer.named_modules():
            if not list(module.children()):
                kind = type(module).__name__
                full = f'{name}.{inner}'
                before = found.get(kind, Cost(0, 0))
                found[kind] = Cost(
                    before.parameters + parameters[full],
                    before.multiply_adds + int(by_module[f'model.{full}']),
                )
    return found


def share(value, whole):
    return f'{value:,} ({value / whole:+.3%})'


def measure(cfg, loader):
    """A config's row of the table, and a note on its attention.

    Raises:
        ValueError: If it is no config of a recognizer with attention whose
            pipeline is known and gives whole clips.
    """
    x = example_inputs(cfg, loader).float()
    shape = 'x'.join(map(str, x.shape))
    # The views of a 3-D network are a batch: the work is the same for each.
    views, x = (x.shape[1], x[:, :1]) if x.dim() == 6 else (1, x)
    model = build_untrained(cfg).eval()
    wrong = wrong_num_segments(model, cfg, [loader])
    if wrong:
        raise ValueError(wrong)
    layers = len(attention_layers(model))
    plain = cost(build_untrained(cfg, plain=True).eval(), x)
    attended = cost(model, x)
    others = attention_operations(model, x) * views
    plain_work, work = plain.multiply_adds * views, attended.multiply_adds * views
    row = (
        shape,
        f'{plain.parameters:,}',
        share(attended.parameters - plain.parameters, plain.parameters),
        f'{plain_work:,}',
        share(work - plain_work, plain_work),
        share(others, plain_work),
    )
    of = ', '.join(
        f'{kind}: {c.parameters:,} parameters, {c.multiply_adds * views:,} '
        'multiply-adds'
        for kind, c in parts(model, x).items()
    )
    return row, f'{layers} layers; {of}'


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
