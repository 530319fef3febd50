"""What a study runs, with `mim` played by a function."""

from pathlib import Path

import pytest
from mmengine.config import Config

from aia_mmaction.study import Model, run_all, runs

CONFIG = """
model = dict(
    type='Recognizer2D',
    backbone=dict(type='ResNet', depth=18),
    cls_head=dict(type='TSNHead', num_classes=2, in_channels=512),
)
randomness = dict(seed=7)
"""


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """The commands of a study in ``tmp_path``, which all do nothing."""
    monkeypatch.chdir(tmp_path)
    Path('net.py').write_text(CONFIG)
    found = []
    monkeypatch.setattr(runs, 'run_command', lambda *c: found.append(list(map(str, c))))
    monkeypatch.setattr(runs, '_test', lambda *args: (['a.mp4'], [0], [0]))
    for seed in (3, 4):
        Path(f'plain/seed{seed}').mkdir(parents=True)
        Path(f'plain/seed{seed}/epoch_12.pth').write_bytes(b'weights')
    return found


def study(module=None, options=None, work_dir='work', records='records', **kwargs):
    models = [Model(Path('net.py'), module)]
    folders = Path(work_dir), Path(records)
    return run_all(models, [3, 4], options or {}, *folders, **kwargs)


def test_each_seed_starts_from_its_own_checkpoint(commands):
    study(load_from='plain/seed{seed}/epoch_12.pth')
    assert [command[-3:] for command in commands] == [
        [
            '--cfg-options',
            f'randomness.seed={seed}',
            f'load_from=plain/seed{seed}/epoch_12.pth',
        ]
        for seed in (3, 4)
    ]


def test_what_has_begun_is_resumed_and_not_loaded_again(commands):
    start = 'plain/seed{seed}/epoch_12.pth'
    study(load_from=start, records='others')
    work_dir = Path('work/net/seed3')
    work_dir.mkdir()
    (work_dir / 'last_checkpoint').write_text('epoch_1.pth')
    study(load_from=start)
    of_3, of_4 = commands[2:]
    assert '--resume' in of_3 and 'load_from' not in of_3[-1]
    assert '--resume' not in of_4 and 'load_from' in of_4[-1]


def test_a_missing_checkpoint_is_known_before_anything_is_trained(commands):
    Path('plain/seed4/epoch_12.pth').unlink()
    with pytest.raises(SystemExit, match='seed 4, got no file plain/seed4/epoch_12'):
        study(load_from='plain/seed{seed}/epoch_12.pth')
    # With another path, the same folders will do.
    assert not commands and not Path('records').exists() and not Path('work').exists()


def test_every_run_has_a_name_of_its_own(commands):
    Path('other').mkdir()
    Path('other/net.py').write_text(CONFIG)
    folders = Path('work'), Path('records')
    same = [Model(Path('net.py')), Model(Path('other/net.py'))]
    for models, seeds in ((same, [3]), (same[:1], [3, 3])):
        with pytest.raises(SystemExit, match='net, seed 3: expected one run of this'):
            run_all(models, seeds, {}, *folders)
    assert not commands


def test_nothing_is_done_twice(commands):
    study()
    assert len(commands) == 2
    study()
    assert len(commands) == 2


@pytest.mark.parametrize('same', ['work_dir', 'records'])
def test_another_config_in_a_folder_of_before(commands, same):
    """Neither its records nor its checkpoints are those of the new one."""
    study()
    Path('work/net/seed3').mkdir()
    Path('work/net/seed3/last_checkpoint').write_text('epoch_12.pth')
    other = dict(work_dir='others', records='other_records')
    del other[same]
    with pytest.raises(SystemExit, match='got those of another config'):
        study(options={'model.backbone.depth': 34}, **other)
    assert len(commands) == 2


def test_a_config_without_results_may_be_changed(commands, monkeypatch):
    """Such as one whose videos were not found."""

    def fails(*command):
        raise SystemExit('no such file')

    with monkeypatch.context() as patch:
        patch.setattr(runs, 'run_command', fails)
        with pytest.raises(SystemExit, match='no such file'):
            study()
    study(options={'model.backbone.depth': 34})
    assert len(commands) == 2
    assert 'depth=34' in Path('records/net/config.py').read_text()


@pytest.mark.parametrize('kind', ['SampleFrames', 'UniformSample'])
def test_frames_are_reversed_where_they_are_decoded(kind):
    steps = [dict(type=name) for name in ('DecordInit', kind, 'DecordDecode')]
    cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=steps))))
    runs.reverse(cfg)
    found = [step['type'] for step in cfg.test_dataloader.dataset.pipeline]
    assert found == ['DecordInit', kind, 'ReverseFrames', 'DecordDecode']


def test_what_cannot_be_reversed_is_known_before_anything_is_trained(commands):
    pipeline = "[dict(type='LoadHVULabel')]"
    Path('net.py').write_text(
        CONFIG + 'reversed_pairs = [(0, 1)]\n'
        f'test_dataloader = dict(dataset=dict(pipeline={pipeline}))\n'
    )
    with pytest.raises(SystemExit, match='decodes frames.* got LoadHVULabel'):
        study()
    assert not commands and not Path('records').exists()


def test_what_cannot_be_built_is_known_before_anything_is_trained(commands):
    """MMAction2's ResNet has no plugins."""
    with pytest.raises(SystemExit, match=r"net\+CinST, got TypeError: .*AIAResNet'"):
        study(module='CinST')
    assert not commands


def test_a_log_that_was_cut_off(tmp_path):
    log = tmp_path / 'a/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"loss": 1.0, "step": 10}\n{"loss": 0.5, "st')
    assert list(runs._scalars(tmp_path, 'loss')) == [dict(loss=1.0, step=10)]
