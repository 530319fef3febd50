import sys

import pytest
import torch
from mmengine.config import Config

from aia_mmaction.datasets.example import example_inputs
from tools import complexity as tool

from ..conftest import REPO

CONFIGS = REPO / 'configs'


@pytest.mark.parametrize(
    'name,loader,shape',
    [
        ('tsm_r50_cinst_sthv1', 'test', (1, 8, 3, 240, 240)),
        ('tsm_r50_cinst_sthv1', 'train', (1, 8, 3, 224, 224)),
        ('tsn_r50_stinc_diving48_16f', 'test', (1, 16, 3, 240, 240)),
        ('r2plus1d_r34_cinst_sthv2', 'test', (1, 1, 3, 8, 240, 240)),
        ('r2plus1d_r34_cinst_kinetics400', 'test', (1, 30, 3, 8, 256, 256)),
    ],
)
def test_input_is_what_the_pipeline_makes(name, loader, shape):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    inputs = example_inputs(cfg, loader)
    assert inputs.shape == shape
    assert inputs.dtype == torch.uint8


def test_input_under_a_protocol():
    cfg = Config.fromfile(CONFIGS / 'tsm_r50_cinst_sthv1.py')
    cfg.test_dataloader.dataset.protocol = 'accurate'
    # two samples of eight frames, three crops
    assert example_inputs(cfg, 'test').shape == (1, 48, 3, 256, 256)


def test_against_the_sizes_of_the_maps(monkeypatch, capsys):
    config = CONFIGS / 'tsn_r18_cinst_motion-pairs.py'
    monkeypatch.setattr(sys, 'argv', ['complexity.py', str(config)])
    tool.main()
    row = next(
        line for line in capsys.readouterr().out.splitlines() if 'tsn_r18' in line
    )
    cells = [cell.split('(')[0].replace(',', '').strip() for cell in row.split('|')]
    parameters, multiply_adds, others = (int(cells[i]) for i in (4, 6, 7))
    # Two blocks in each stage, of maps [64, 8, 12, 12] to [512, 8, 2, 2]
    maps = [(64 * 2**i, 8, 12 // 2**i, 12 // 2**i) for i in range(4)] * 2
    maps[3] = maps[7] = (512, 8, 2, 2)
    gates = elements = 0
    for c, t, h, w in maps:
        elements += c * t * h * w
        gates += t * h * w + c * h * w + t * c * w + t * h * c
    assert parameters == len(maps) * 4 * (54 + 2)
    assert multiply_adds == gates * (54 + 2)  # a norm counts 2 an element
    # Maximum and mean of four pools, the inner product, the mean of three
    # gates, the product; and a sigmoid for each gate
    assert others == 13 * elements + gates
