"""The built wheel, used from a directory that is not the repository."""

import os
import sys

import pytest
import torch
import yaml
from mmengine.config import Config

from .benchmarks import make_benchmarks
from .conftest import (
    IN_PROCESS,
    REPO,
    exhaustive_but,
    fresh,
    mmaction2,
    read_config,
    run,
    stack_as_installed,
)

pytestmark = pytest.mark.slow

DATA = {
    'Something-Something V1': 'data/sthv1/',
    'Jester': 'data/jester/',
    'Something-Something V2': 'data/sthv2/',
    'Diving48': 'data/diving48/',
    'EGTEA Gaze+': 'data/egtea/',
    'Kinetics-400': 'data/kinetics400/',
    'Motion pairs': 'data/motion_pairs/',
    'UTD-MHAD': 'data/utd-mhad/',
    'J-HMDB': 'data/jhmdb/',
}
CONFIGS = sorted(p.stem for p in (REPO / 'configs').glob('*.py'))


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """An environment with the wheel, and MMEngine after `doctor --fix`."""
    folder = tmp_path_factory.mktemp('wheel')
    pip = (sys.executable, '-m', 'pip', '-q', '--disable-pip-version-check')
    source = folder / 'source'
    # Not in the repository: setuptools leaves a build folder behind.
    run('git', 'clone', '-q', REPO, source, cwd=folder)
    run(
        'cp',
        '-r',
        *(
            REPO / n
            for n in (
                'aia_mmaction',
                'configs',
                'tools',
                'setup.py',
                'model-index.yml',
                'README.md',
            )
        ),
        source,
        cwd=folder,
    )
    run(
        *pip,
        'wheel',
        '--no-deps',
        '--no-build-isolation',
        '-w',
        folder,
        source,
        cwd=folder,
    )
    site = folder / 'site'
    run(
        *pip,
        'install',
        '--no-deps',
        '--target',
        site,
        next(folder.glob('*.whl')),
        cwd=folder,
    )
    stack_as_installed(site)
    env = dict(PYTHONPATH=str(site))
    run(sys.executable, '-m', 'aia_mmaction.doctor', '--fix', cwd=folder, env=env)
    return env


@pytest.fixture
def mim(wheel, tmp_path):

    def call(*args, **kwargs):
        return run(
            sys.executable, '-m', 'mim', *args, cwd=tmp_path, env=wheel, **kwargs
        )

    return call


def test_holds_everything(wheel):
    mim_folder = os.path.join(wheel['PYTHONPATH'], 'aia_mmaction', '.mim')
    for folder in ('configs', 'tools'):
        for path in (REPO / folder).rglob('*'):
            if path.suffix in ('.py', '.yml'):
                inside = os.path.join(mim_folder, path.relative_to(REPO))
                assert os.path.exists(inside), inside


def test_mim_search(mim):
    found = mim('search', 'aia_mmaction', '--valid-config')
    assert all(f"'{name}'" in found for name in CONFIGS)
    found = mim('search', 'aia_mmaction', '--dataset', 'diving48')
    assert 'tsm_r50_cinst_diving48_16f' in found
    assert 'sthv1' not in found


@pytest.mark.exhaustive
def test_mim_download(mim, tmp_path):
    """It writes the config as a whole, to start one's own from."""
    mim(
        'download',
        'aia_mmaction',
        '--config',
        'tsm_r50_stinc_sthv2',
        '--dest',
        tmp_path,
    )
    cfg = Config.fromfile(tmp_path / 'tsm_r50_stinc_sthv2.py')
    assert cfg.model.backbone.plugins[0].cfg.type == 'STinC'
    assert cfg.train_dataloader.dataset.ann_file.startswith('data/sthv2/')


@pytest.mark.exhaustive
def test_config_inheritance(wheel, tmp_path):
    """MMEngine asks for a folder in the name, hence the _base_/.."""
    make_benchmarks(tmp_path, ['diving48'])
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'aia_mmaction::_base_/../tsn_r50_cinst_diving48.py'\n"
        'model = dict(backbone=dict(\n'
        "    pretrained=None, depth=18, plugins='C2ST'),\n"
        '    cls_head=dict(in_channels=512))\n'
    )
    mmaction2(
        'train',
        'mine.py',
        '--cfg-options',
        *IN_PROCESS,
        'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=2',
        'train_dataloader.dataset.pipeline.5.scale=(64,64)',
        'val_dataloader.dataset.pipeline.4.crop_size=64',
        cwd=tmp_path,
        env=wheel,
        how=fresh,
    )
    state = torch.load(tmp_path / 'work_dirs/mine/epoch_1.pth')['state_dict']
    assert any('after_norm.1.gate_t' in key for key in state)


def test_tool(wheel, tmp_path):
    """A tool runs from where the wheel has put it."""
    tool = os.path.join(
        wheel['PYTHONPATH'],
        'aia_mmaction',
        '.mim',
        'tools',
        'data',
        'make_motion_pairs.py',
    )
    run(
        sys.executable,
        tool,
        'data',
        '--num-train',
        8,
        '--num-test',
        8,
        cwd=tmp_path,
        env=wheel,
    )
    assert len(list((tmp_path / 'data/videos/train').iterdir())) == 8


def metafile():
    """The entries of configs/metafile.yml, by name."""
    meta = yaml.safe_load((REPO / 'configs/metafile.yml').read_text())
    return {model['Name']: model for model in meta['Models']}


def test_metafile():
    index = yaml.safe_load((REPO / 'model-index.yml').read_text())
    assert index == dict(Import=['configs/metafile.yml'])
    assert sorted(metafile()) == CONFIGS


# Of each kind of network, and one with a split
USUAL = (
    'tsn_r50_cinst_sthv1',
    'tsm_r50_stinc_egtea-split2_16f',
    'r2plus1d_r34_cinst_kinetics400',
    'tsm_mobilenetv2_stinc_utd-mhad',
)


@pytest.mark.parametrize('name', exhaustive_but(USUAL, CONFIGS))
def test_metafile_says_what_the_config_is(name):
    model = metafile()[name]
    assert model['Config'] == f'configs/{name}.py'
    cfg = read_config(f'{name}.py')
    network, backbone = model['Metadata']['Architecture'].split(' ')
    kind, _, depth = backbone.partition('-')
    assert kind in cfg.model.backbone.type
    assert cfg.model.backbone.get('depth', '') == (depth and int(depth))
    assert cfg.model.backbone.type.endswith('TSM') == (network == 'TSM')
    frames = cfg.model.backbone.get('num_segments', 8)
    assert model['Metadata']['Frames'] == frames
    folder = DATA[model['Metadata']['Training Data'].split(' split')[0]]
    assert cfg.train_dataloader.dataset.ann_file.startswith(folder)
    split = model['Metadata']['Training Data'].partition(' split ')[2]
    assert f'split_{split}' in cfg.train_dataloader.dataset.ann_file or not split
