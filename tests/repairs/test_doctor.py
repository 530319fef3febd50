import importlib.metadata
import sys
from importlib.util import find_spec

import pytest

from aia_mmaction import repairs
from aia_mmaction.repairs import report, requirements

from ..conftest import run, stack_as_installed


def call(*args, cwd, check=True, **env):
    return run(
        sys.executable,
        '-m',
        'aia_mmaction.doctor',
        *args,
        cwd=cwd,
        env=env,
        check=check,
    )


@pytest.fixture
def broken(tmp_path):
    return dict(cwd=tmp_path, PYTHONPATH=str(stack_as_installed(tmp_path)))


@pytest.mark.slow
def test_report_fix_and_undo(broken, tmp_path):
    drn = tmp_path / 'mmaction' / 'models' / 'localizers' / 'drn'
    tools = tmp_path / 'mmaction' / '.mim' / 'tools'
    edited = [
        tmp_path / 'mmengine' / 'config' / 'utils.py',
        tools / 'deployment' / 'publish_model.py',
        tools / 'convert' / 'reparameterize_model.py',
        tools / 'test.py',
    ]
    listed = sorted(drn.parent.iterdir())
    texts = [file.read_text() for file in edited]

    out = call(**broken, check=False)
    assert 'mmaction2 lacks mmaction/models/localizers/drn' in out
    assert '-> python -m aia_mmaction.doctor --fix' in out
    assert 'publish_model.py of MMAction2 runs the code in a checkpoint' in out
    assert f'mmengine {importlib.metadata.version("mmengine")}' in out

    out = call('--fix', **broken)
    assert all(f'Changed {file}.' in out for file in (drn, *edited))
    out = call(**broken)
    assert 'Problems: none' in out and 'doctor --fix' not in out
    run(
        sys.executable,
        '-c',
        'import mmaction.models',
        cwd=tmp_path,
        env=dict(PYTHONPATH=broken['PYTHONPATH']),
    )
    assert 'Nothing to fix' in call('--fix', **broken)

    out = call('--undo', **broken)
    assert all(f'Changed {file} back.' in out for file in (drn, *edited))
    assert [file.read_text() for file in edited] == texts
    utils = edited[0]
    assert [p.name for p in utils.parent.iterdir() if 'utils' in p.name] == ['utils.py']
    after = [p for p in drn.parent.iterdir() if p.name != '__pycache__']
    assert sorted(after) == listed
    assert 'Nothing to undo' in call('--undo', **broken)


def test_undo_keeps_what_is_not_ours(broken, tmp_path):
    drn = tmp_path / 'mmaction' / 'models' / 'localizers' / 'drn'
    call('--fix', **broken)
    (drn / 'drn.py').write_text('class DRN: ...  # the real one')
    assert f'{drn} back' not in call('--undo', **broken)
    assert (drn / 'drn.py').read_text() == 'class DRN: ...  # the real one'


def installed_as(monkeypatch, versions):
    """Pretend that distributions have other versions, None for absent."""
    real_version, real_spec = importlib.metadata.version, find_spec

    def version(name):
        if versions.get(name, name) is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions.get(name) or real_version(name)

    def spec(name):
        return None if versions.get(name, name) is None else real_spec(name)

    for module in (requirements, report):
        monkeypatch.setattr(module, 'find_spec', spec)
    monkeypatch.setattr(requirements, 'version', version)


@pytest.mark.parametrize(
    'versions, what, remedy',
    [
        (
            {'mmcv': None, 'mmcv-lite': None},
            'expected mmcv or mmcv-lite, got neither',
            'mmcv-lite>=2.0.1,<2.2.0',
        ),
        (
            {'mmcv-lite': '2.2.0'},
            'expected mmcv-lite>=2.0.1,<2.2.0.*got 2.2.0',
            'pip install "mmcv-lite>=2.0.1,<2.2.0"',
        ),
        (
            {'mmaction2': '0.24.1'},
            'mmaction2>=1.2.0,<1.3.0, got 0.24.1',
            'pip install "mmaction2',
        ),
        ({'mmengine': None}, 'mmengine is not installed', 'pip install "mmengine'),
        (
            {'importlib_metadata': None},
            'importlib_metadata',
            'pip install importlib_metadata',
        ),
    ],
)
def test_missing_requirements(monkeypatch, versions, what, remedy):
    installed_as(monkeypatch, versions)
    with pytest.raises(ImportError, match=what) as info:
        requirements.check_requirements()
    assert remedy in str(info.value)
    assert any(remedy in p.remedy for p in report.find_problems())


@pytest.mark.parametrize(
    'missing, remedy',
    [
        ('pip._vendor.pkg_resources', 'pip install "pip<25"'),
        ('pip', 'pip install "pip<25"'),
        ('decord', 'pip install decord'),
    ],
)
def test_missing_for_tools(monkeypatch, missing, remedy):
    installed_as(monkeypatch, {missing: None})
    assert any(remedy in p.remedy for p in report.find_problems())
    requirements.check_requirements()  # importing works


@pytest.mark.parametrize(
    'package, version, remedy',
    [('openmim', None, 'pip install openmim "pip<25"'), ('av', '14.4.0', '"av>=15"')],
)
def test_limits(monkeypatch, package, version, remedy):
    def those_of_tools():
        return [p for p in report.find_limits() if remedy in p.remedy]

    installed_as(monkeypatch, {package: '99'})
    assert not those_of_tools()
    installed_as(monkeypatch, {package: version})
    assert len(those_of_tools()) == 1


@pytest.mark.parametrize('error', [ImportError, AttributeError])
def test_setuptools_that_fails(monkeypatch, error):
    """Without pkg_resources, or too old for this Python."""

    def import_module(name):
        raise error(name)

    monkeypatch.setattr(report, 'import_module', import_module)
    problem = next(p for p in report.find_problems() if 'pkg_resources' in p.what)
    assert error.__name__ in problem.what
    assert problem.remedy == 'pip install "setuptools>=66.1,<81"'


def test_untested_versions(monkeypatch, capfd):
    repairs.log_doubts()
    assert 'not tested' not in ''.join(capfd.readouterr())
    installed_as(monkeypatch, {'torch': '2.99.0', 'mmengine': '0.12.0'})
    repairs.log_doubts()
    log = ''.join(capfd.readouterr())
    assert log.count('aia_mmaction was not tested with torch 2.99.0 (tested: 2.1') == 1
    assert 'mmengine 0.12.0' in log
    assert 'not tested with torch 2.99.0' in report.report()[0]


def test_both_mmcv(monkeypatch):
    installed_as(monkeypatch, {'mmcv': '2.1.0'})
    assert any(
        'pip uninstall mmcv mmcv-lite' in p.remedy for p in report.find_problems()
    )
    requirements.check_requirements()  # may work


def test_fix_without_permission(broken, tmp_path):
    """Something is in the way of what it would write."""
    drn = tmp_path / 'mmaction' / 'models' / 'localizers' / 'drn'
    drn.mkdir()
    (drn / 'notes.txt').write_text('mine')
    out = call('--fix', **broken, check=False)
    assert f'expected to write {drn}' in out and 'Traceback' not in out
    assert (drn / 'notes.txt').read_text() == 'mine'
    assert [p.name for p in drn.parent.iterdir() if 'drn' in p.name] == ['drn']


@pytest.mark.slow
def test_other_modules_run_with_m(tmp_path):
    """Only the doctor gets by without the package."""
    package = tmp_path / 'project'
    package.mkdir()
    (package / '__init__.py').write_text('from aia_mmaction import insert_plugins')
    (package / 'train.py').write_text('print("trained")')
    out = run(
        sys.executable,
        '-m',
        'project.train',
        cwd=tmp_path,
        env=dict(PYTHONPATH=str(tmp_path)),
    )
    assert 'trained' in out


def test_runs_where_nothing_is_installed(tmp_path):
    """The doctor imports nothing that may be missing."""
    import aia_mmaction

    (tmp_path / 'aia_mmaction').symlink_to(aia_mmaction.__path__[0])
    # -S: no site-packages
    out = run(
        sys.executable, '-S', '-m', 'aia_mmaction.doctor', cwd=tmp_path, check=False
    )
    assert 'torch is not installed' in out
    assert 'got neither' in out
    out = run(
        sys.executable, '-S', '-c', 'import aia_mmaction', cwd=tmp_path, check=False
    )
    assert 'ImportError: aia_mmaction cannot run here' in out


@pytest.mark.slow
@pytest.mark.parametrize(
    'error, reported',
    [
        ('ImportError("no name")', 'Problems: none'),
        (
            'AssertionError("wrong mmcv")',
            'cannot be told, because of AssertionError: wrong mmcv',
        ),
    ],
)
@pytest.mark.exhaustive
def test_broken_mmpretrain(tmp_path, error, reported):
    (tmp_path / 'mmpretrain.py').write_text(f'raise {error}')
    broken = reported != 'Problems: none'
    out = call(cwd=tmp_path, check=not broken, PYTHONPATH=str(tmp_path))
    assert reported in out and 'Traceback' not in out
