import json
import sys

import pytest
import torch

from aia_mmaction.benchmarking import layers, networks
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
def test_exports(tmp_path, monkeypatch):
    out = tmp_path / 'out.json'
    options = '--formats', 'ts', '--size', 32, '--repeats', 1, '--json', out
    call(monkeypatch, 'exports', CONFIG, *options)
    rows = json.loads(out.read_text())['rows']
    assert [row['variant'] for row in rows] == ['plain', 'reference', 'exported']
    assert rows[0]['ts ratio'] == 1 and all(row['ts (ms)'] > 0 for row in rows)


@pytest.mark.slow
def test_network_of_whole_clips(monkeypatch, tmp_path):
    config = REPO / 'configs/r2plus1d_r34_cinst_sthv2.py'
    options = ['--size', 32, '--repeats', 1, '--metrics', 'inference']
    call(monkeypatch, 'network', config, *options, '--json', tmp_path / 'out.json')
    rows = json.loads((tmp_path / 'out.json').read_text())['rows']
    assert [row['variant'] for row in rows] == ['plain', 'reference', 'auto']
    assert {row['input'] for row in rows} == {'1x1x3x8x32x32'}


def test_layer(monkeypatch, capsys, tmp_path):
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
        '--json',
        tmp_path / 'out.json',
        '--plot',
        tmp_path / 'out.png',
    )
    *rows, floors = json.loads((tmp_path / 'out.json').read_text())['rows']
    assert {row['input'] for row in rows} == {'8x5x7x7'}
    assert [row['variant'] for row in rows] == ['reference', 'auto']
    for mode in ('inference', 'training'):
        of_mode = [float(ms) for ms in floors[f'{mode} (ms)'].split(', ')]
        assert len(of_mode) == 3
        assert rows[0][f'{mode} ratio'] == 1 != rows[1][f'{mode} ratio']
        for row in rows:
            # Printed with two digits; on a busy machine it may be below 1.
            expected = row[f'{mode} (ms)'] / max(of_mode)
            assert row[f'of the {mode} floor'] == pytest.approx(expected, rel=0.05)
    assert '(×1.00)' in capsys.readouterr().out
    assert (tmp_path / 'out.png').read_bytes()[:4] == b'\x89PNG'


def test_floors_of_a_layer():
    """Counted by hand, for maps [1, 3, 2, 4, 5] and four gates."""
    assert layers._multiply_adds('CTHW', (2, 3, 4, 5), 2) == 54 * (40 + 60 + 30 + 24)
    seconds = dict(copy=2.0, product=0.5, **{'start auto': 3.0, 'start fused': 1.0})
    floors = layers._floors(seconds, ['start auto', 'start fused'], 4, 2**31)
    assert floors == (4.0, 1.0, 1.0)


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
