"""What attention adds in parameters and multiply-adds.

Multiply-adds are counted by MMEngine, as in the literature: convolutions,
linear layers and norms. Pools, sigmoids and products are left out of such
counts; of the attention they are counted by themselves, one operation per
element that a pool reads or another operation writes.
"""

import math
from typing import Any, Dict, NamedTuple, Tuple

from mmengine.analysis import FlopAnalyzer, parameter_count
from mmengine.config import Config
from torch import Tensor, nn

from aia_mmaction.checks.num_segments import wrong_num_segments
from aia_mmaction.datasets.example import example_inputs
from aia_mmaction.plugins import attention_layers

from .untrained import build_untrained

# What reads all of a pooled map, and what writes all of a product
POOLS = ('aten::amax', 'aten::max', 'aten::mean', 'aten::sum')
ELEMENTWISE = ('aten::add', 'aten::div', 'aten::mul', 'aten::sigmoid')


class Cost(NamedTuple):
    """Of a network or a part of it."""

    parameters: int
    multiply_adds: int


class Scores(nn.Module):
    """A recognizer from its input to the scores of the classes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """``[N, ...]`` to ``[N, num_classes]``."""
        return self.model.extract_feat(x, stage='head')[0]


def _analyzer(model: nn.Module, x: Tensor) -> FlopAnalyzer:
    return (
        FlopAnalyzer(Scores(model), x)
        .unsupported_ops_warnings(False)
        .uncalled_modules_warnings(False)
    )


def cost(model: nn.Module, x: Tensor) -> Cost:
    """Of a recognizer for an input."""
    return Cost(parameter_count(model)[''], int(_analyzer(model, x).total()))


def _count(values: Any) -> int:
    return math.prod(values.type().sizes())


def attention_operations(model: nn.Module, x: Tensor) -> int:
    """What the count of multiply-adds leaves out, in the attention alone."""
    flops = _analyzer(model, x)
    for name in POOLS:
        flops.set_op_handle(name, lambda inputs, outputs: _count(inputs[0]))
    for name in ELEMENTWISE:
        flops.set_op_handle(name, lambda inputs, outputs: _count(outputs[0]))
    operations = 0
    for name, _ in attention_layers(model):
        by_operator = flops.by_module_and_operator()[f'model.{name}']
        operations += sum(
            n
            for operator, n in by_operator.items()
            if f'aten::{operator}' in POOLS + ELEMENTWISE
        )
    return int(operations)


def parts(model: nn.Module, x: Tensor) -> Dict[str, Cost]:
    """Parameters and multiply-adds of the attention, by kind of module."""
    by_module = _analyzer(model, x).by_module()
    parameters = parameter_count(model)
    found: Dict[str, Cost] = {}
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


def _share(value: int, whole: int) -> str:
    return f'{value:,} ({value / whole:+.3%})'


def measure(cfg: Config, loader: str) -> Tuple[Tuple[str, ...], str]:
    """A config's row of the table, and a note on its attention.

    Args:
        cfg (Config): Of a recognizer with attention.
        loader (str): ``'train'`` or ``'test'``, whose input is meant.

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
        _share(attended.parameters - plain.parameters, plain.parameters),
        f'{plain_work:,}',
        _share(work - plain_work, plain_work),
        _share(others, plain_work),
    )
    of = ', '.join(
        f'{kind}: {c.parameters:,} parameters, {c.multiply_adds * views:,} '
        'multiply-adds'
        for kind, c in parts(model, x).items()
    )
    return row, f'{layers} layers; {of}'
