"""What a config's attention adds in parameters and multiply-adds.

The input is what the config's own pipeline makes of a video of 240 x 320
pixels, one clip or more. Multiply-adds are counted by MMEngine, as in the
literature: convolutions, linear layers and norms. Pools, sigmoids and products
are left out of such counts; of the attention they are counted by themselves,
one operation per element that a pool reads or another operation writes.

Examples:
    python tools/complexity.py configs/tsm_r50_cinst_sthv1.py
    python tools/complexity.py configs/tsn_r50_*_sthv2.py --pipeline train
"""

import argparse
import copy
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmaction.registry import MODELS
from mmengine.analysis import FlopAnalyzer, parameter_count
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from aia_mmaction.backbones import attention_layers
from aia_mmaction.datasets.protocols import with_protocol
from aia_mmaction.files import config_file

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
    return parser.parse_args()


def input_shape(cfg, loader):
    """Of the batch of one video that a loader of the config gives."""
    dataset = cfg[f'{loader}_dataloader'].dataset
    while 'dataset' in dataset:  # e.g. in a RepeatDataset
        dataset = dataset.dataset
    pipeline = dataset.pipeline
    if dataset.get('protocol') is not None:
        pipeline = with_protocol(pipeline, dataset.protocol)
    transforms = []
    for transform in pipeline:
        if transform['type'].endswith('Decode'):
            transform = dict(type='ArrayDecode')
        if not transform['type'].endswith('Init'):
            transforms.append(transform)
    frames = np.zeros((300, 240, 320, 3), np.uint8)
    sample = Compose(transforms)(
        dict(
            array=frames,
            total_frames=len(frames),
            start_index=0,
            modality='RGB',
            label=0,
        )
    )
    return 1, *sample['inputs'].shape


def build(cfg, plain):
    cfg = copy.deepcopy(cfg.model)
    cfg.backbone.pretrained = None
    if cfg.backbone.type.endswith('TSM'):
        cfg.backbone.pretrained2d = False
    if plain:
        cfg.backbone.plugins = []
    return MODELS.build(cfg).eval()


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
        cfg = Config.fromfile(path)
        x = torch.zeros(input_shape(cfg, args.pipeline))
        plain = cost(build(cfg, plain=True), x)
        model = build(cfg, plain=False)
        attended = cost(model, x)
        table.add_row(
            Path(path).stem,
            'x'.join(map(str, x.shape)),
            f'{plain.parameters:,}',
            share(attended.parameters - plain.parameters, plain.parameters),
            f'{plain.multiply_adds:,}',
            share(attended.multiply_adds - plain.multiply_adds, plain.multiply_adds),
            share(attention_operations(model, x), plain.multiply_adds),
        )
        of = ', '.join(
            f'{kind}: {c.parameters:,} parameters, {c.multiply_adds:,} multiply-adds'
            for kind, c in parts(model, x).items()
        )
        notes.append(f'{Path(path).stem}: {len(attention_layers(model))} layers; {of}')
    Console(width=1000).print(table, end='')
    print('\n'.join(notes))


if __name__ == '__main__':
    main()
