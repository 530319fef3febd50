import json
import sys

import pytest
import torch

from aia_mmaction.benchmarking import networks
from aia_mmaction.ops import fused
from tools import benchmark as tool

from ..conftest import REPO, run

TOOL = REPO / 'tools/benchmark.py'
CONFIG = REPO / 'configs/tsn_r18_cinst_motion-pairs.py'


def call(monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', *map(str, args)])
    tool.main()


@pytest.mark.slow
def test_network(tmp_path):
    out, picture = tmp_path / 'out.json', tmp_path / 'out.png'
    printed = run(
        sys.executable,
        TOOL,
        'network',
        CONFIG,
        '--size',
        32,
        '--repeats',
        '1',
        '--json',
        out,
        '--plot',
        picture,
        cwd=tmp_path,
    )
    result = json.loads(out.read_text())
    assert result['environment']['PyTorch'] == torch.__version__
    rows = result['rows']
    assert [row['variant'] for row in rows] == ['plain', 'reference', 'auto']
    assert {row['input'] for row in rows} == {'1x8x3x32x32'}
    for row in rows:
        for metric in (
            'inference (ms)',
            'training step (ms)',
            'kept for backward (MB)',
            'peak memory (MB)',
        ):
            assert row[metric] > 0
    # What is exact on any machine
    plain, reference, auto = (row['kept for backward ratio'] for row in rows)
    assert plain == 1 < auto < reference
    # The loss itself: four bytes
    assert [row['left after backward (MB)'] for row in rows] == [4e-6] * 3
    assert '| tsn_r18_cinst_motion-pairs' in printed
    assert picture.read_bytes()[:4] == b'\x89PNG'


@pytest.mark.slow
def test_network_of_whole_clips(monkeypatch, tmp_path):
    config = REPO / 'configs/r2plus1d_r34_cinst_sthv2.py'
    options = ['--size', 32, '--repeats', 1, '--metrics', 'inference']
    call(monkeypatch, 'network', config, *options, '--json', tmp_path / 'out.json')
    rows = json.loads((tmp_path / 'out.json').read_text())['rows']
    assert [row['variant'] for row in rows] == ['plain', 'reference', 'auto']
    assert {row['input'] for row in rows} == {'1x1x3x8x32x32'}


def test_layer(monkeypatch, capsys):
    call(
        monkeypatch,
        'layer',
        '--layers',
        'STinC',
        '--maps',
        '5x7',
        '--repeats',
        1,
        '--amp',
        'bfloat16',
        '--channels-last',
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split('|')[2].strip() for line in lines if '8x5x7x7' in line] == [
        'reference',
        'auto',
        'copy',
    ]


@pytest.mark.slow
def test_scaling_varies_one_axis_at_a_time(monkeypatch, tmp_path):
    out = tmp_path / 'out.json'
    monkeypatch.setattr(networks, 'DEFAULT_SIZE', 32)
    call(
        monkeypatch,
        'scaling',
        CONFIG,
        '--impl',
        'auto',
        '--repeats',
        1,
        '--batches',
        1,
        2,
        '--frames',
        4,
        '--sizes',
        48,
        '--json',
        out,
    )
    inputs = [row['input'] for row in json.loads(out.read_text())['rows']]
    assert (
        inputs[::2]
        == inputs[1::2]
        == ['1x8x3x32x32', '2x8x3x32x32', '1x4x3x32x32', '1x8x3x48x48']
    )


@pytest.mark.parametrize('name', ['forward', 'forward_inplace', 'backward'])
def test_no_speed_for_wrong_results(monkeypatch, capsys, name):
    right = getattr(fused, name)

    def wrong(*args):
        result = right(*args)
        if name == 'forward_inplace':
            args[0].mul_(1.001)
            return result
        first, *rest = result
        return (first * 1.001, *rest)

    monkeypatch.setattr(fused, name, wrong)
    with pytest.raises(
        SystemExit, match='fused: no speed is printed.*relative errors.*CinST'
    ):
        # in place, as its activations are
        call(
            monkeypatch,
            'network',
            REPO / 'configs/tsn_r50_cinst_sthv1.py',
            '--impl',
            'fused',
            '--size',
            32,
            '--repeats',
            1,
            '--metrics',
            'inference',
        )
    assert 'inference' not in capsys.readouterr().out


@pytest.mark.slow
def test_grid(monkeypatch, tmp_path):
    """MobileNetV2 has no config of its own; the others are known."""
    names = {name for grid in networks.GRIDS.values() for name, *_ in grid}
    assert 'tsn_mobilenetv2_cinst' in names
    for name in names - {'tsn_mobilenetv2_cinst'}:
        assert (REPO / f'configs/{name}.py').exists()
    monkeypatch.setitem(networks.GRIDS, 'small', [('tsn_mobilenetv2_cinst', 1, 32)])
    out = tmp_path / 'out.json'
    options = ['--impl', 'auto', '--repeats', 1, '--metrics', 'inference']
    call(monkeypatch, 'grid', 'small', *options, '--json', out)
    rows = json.loads(out.read_text())['rows']
    assert [row['variant'] for row in rows] == ['plain', 'auto']
