"""What is measured on a GPU, tried on a CPU."""

import json
import sys

import pytest
import torch

from ..conftest import REPO, call, needs_numba, run

TOOL = REPO / 'tools/gpu_report.py'
SMALL = '--device', 'cpu', '--batch', 1, '--size', 28, '--repeats', 1
WITHOUT_OPENMMLAB = """
import importlib.util, runpy, sys

find_spec = importlib.util.find_spec

def is_gone(name):
    return name.partition('.')[0] in ('mmcv', 'mmengine', 'mmaction')

class No:
    def find_spec(self, name, *args):
        if is_gone(name):
            raise ImportError(f'{name} is not here')

sys.meta_path.insert(0, No())
importlib.util.find_spec = lambda *a: None if is_gone(a[0]) else find_spec(*a)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.slow
@needs_numba
def test_layers_without_openmmlab(tmp_path):
    command = sys.executable, '-c', WITHOUT_OPENMMLAB, TOOL, *SMALL
    steps = '--steps', 'layers', 'networks', '--layers', 'CinST'
    printed = run(*command, *steps, '--out', tmp_path, cwd=tmp_path)
    report = json.loads((tmp_path / 'gpu_no_gpu.json').read_text())
    assert report['layers']['result'] == 'done'
    assert report['tests']['result'] == 'not asked for'
    assert report['networks']['result'].startswith('not run: it needs MMAction2')
    # A row for each of four maps, two layouts and three paths
    assert len([line for line in printed.splitlines() if line[:7] == '| CinST']) == 24
    assert (tmp_path / 'gpu_no_gpu.png').stat().st_size > 1000


@pytest.mark.exhaustive
@needs_numba
def test_networks_and_processes(tmp_path):
    config = REPO / 'configs/tsn_r18_cinst_motion-pairs.py'
    steps = '--steps', 'networks', 'sync', '--configs', config
    how = '--layouts', 'channels_last', '--compile', 'off'
    options = *SMALL, *steps, *how, '--out', tmp_path
    run(sys.executable, TOOL, *options, cwd=tmp_path)
    report = json.loads((tmp_path / 'gpu_no_gpu.json').read_text())
    assert report['sync']['result'] == report['networks']['result'] == 'done'
    plain, auto = report['networks']['rows']
    assert plain['variant'] == 'plain' and auto['layout'] == 'channels_last'
    assert auto['training step ratio'] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_is_expected(tmp_path):
    printed = call(TOOL, '--out', tmp_path, cwd=tmp_path, check=False)
    assert 'gpu_report.py: expected a GPU, got none.' in printed
