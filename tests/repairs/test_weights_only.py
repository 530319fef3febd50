import pickle
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch
from mmaction.apis import init_recognizer
from mmengine.config import Config
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModule
from mmengine.optim import scheduler
from mmengine.runner import Runner, checkpoint, load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from aia_mmaction.repairs import weights_only

from ..conftest import REPO, run


@pytest.fixture
def hostile(tmp_path):
    """A checkpoint that writes a file when its code is run, which must not be."""
    mark = tmp_path / 'mark'

    class Hostile:
        def __reduce__(self):
            return exec, (f'open({str(mark)!r}, "w")',)

    torch.save(dict(state_dict={}, other=Hostile()), tmp_path / 'hostile.pth')
    yield tmp_path / 'hostile.pth'
    assert not mark.exists()


@pytest.mark.parametrize(
    'name, kwargs',
    [
        ('ConstantLR', {}),
        ('CosineAnnealingLR', dict(T_max=3)),
        ('CosineRestartLR', dict(periods=[2], restart_weights=[1], eta_min=0)),
        ('ExponentialLR', dict(gamma=0.9)),
        ('LinearLR', {}),
        ('MultiStepLR', dict(milestones=[2])),
        ('OneCycleLR', dict(eta_max=0.1, total_steps=5)),
        ('OneCycleLR', dict(eta_max=0.1, total_steps=5, anneal_strategy='linear')),
        ('PolyLR', {}),
        ('ReduceOnPlateauLR', dict(monitor='loss')),
        ('StepLR', dict(step_size=2)),
    ],
)
def test_every_schedule_can_be_resumed(name, kwargs, tmp_path):
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.1)
    state = getattr(scheduler, name)(optimizer, **kwargs).state_dict()
    torch.save(state, tmp_path / 'state.pth')
    assert CheckpointLoader.load_checkpoint(str(tmp_path / 'state.pth')) == state


class TestRefusesHostileCheckpoints:
    def refused(self, path):
        with pytest.raises((pickle.UnpicklingError, ValueError)) as info:
            CheckpointLoader.load_checkpoint(str(path))
        return str(info.value)

    def save(self, obj, path):
        torch.save(dict(state_dict=obj), path)
        return path

    @pytest.mark.parametrize(
        'target, attribute',
        [
            (HistoryBuffer, '__init__'),
            (HistoryBuffer, '__globals__'),
            (np.ndarray, 'tofile'),
            (torch.nn.Module, 'mean'),
        ],
    )
    def test_getattr(self, target, attribute, tmp_path):

        class Evil:
            def __reduce__(self):
                return getattr, (target, attribute)

        self.refused(self.save(Evil(), tmp_path / 'evil.pth'))

    @pytest.mark.parametrize(
        'call',
        [
            (np.ndarray, ((1,), 'O', b'A' * 8)),
            (np.ndarray.__new__, (np.ndarray, (1,), 'O', b'A' * 8)),
        ],
    )
    def test_array_over_foreign_memory(self, call, tmp_path):

        class Evil:
            def __reduce__(self):
                return call

        self.refused(self.save(Evil(), tmp_path / 'evil.pth'))

    def test_reconstructed_class_is_an_array(self, tmp_path):
        """NumPy's _reconstruct would make an instance of any class."""

        class Evil:
            def __reduce__(self):
                return np.zeros(1).__reduce__()[0], (dict, (0,), b'b')

        path = self.save(Evil(), tmp_path / 'evil.pth')
        try:
            loaded = CheckpointLoader.load_checkpoint(str(path))
            assert type(loaded['state_dict']) is np.ndarray
        except pickle.UnpicklingError:
            pass

    @pytest.mark.parametrize(
        'array',
        [
            np.arange(6.0).reshape(2, 3),
            np.float32(3),
            np.int64(4),
            np.array([True, False]),
        ],
    )
    def test_honest_arrays(self, array, tmp_path):
        torch.save(array, tmp_path / 'array.pth')
        got = CheckpointLoader.load_checkpoint(str(tmp_path / 'array.pth'))
        assert type(got) is type(array) and got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)

    def test_code(self, hostile):
        self.refused(hostile)

    def test_code_from_a_url(self, hostile, tmp_path, monkeypatch):
        monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
        self.save(torch.ones(2), tmp_path / 'honest.pth')
        handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
        with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            url = f'http://127.0.0.1:{server.server_port}'
            for _ in range(2):  # downloaded, and kept
                loaded = CheckpointLoader.load_checkpoint(f'{url}/honest.pth')
                assert loaded['state_dict'].sum() == 2
            self.refused(f'{url}/{hostile.name}')
            server.shutdown()
        assert (tmp_path / 'cache/hub/checkpoints/honest.pth').is_file()

    def test_weights_only_stays_on(self, tmp_path):
        hub = MessageHub.get_instance('run')
        self.save(hub, tmp_path / 'hub.pth')
        assert 'MessageHub' in self.refused(tmp_path / 'hub.pth')


def init_cfg(path):
    init_cfg = dict(type='Pretrained', checkpoint=path)
    BaseModule(init_cfg).init_weights()


def pretrained(path):
    checkpoint._load_checkpoint(path, map_location='cpu')


def load_from(path):
    load_checkpoint(torch.nn.Linear(1, 1), path)


def resume(path):
    Runner(
        torch.nn.Linear(1, 1), str(path.rpartition('/')[0]), load_from=path, resume=True
    ).load_or_resume()


def recognizer(path):
    config = Config.fromfile(REPO / 'configs' / 'tsn_r18_cinst_motion-pairs.py')
    init_recognizer(config, path, device='cpu')


class TestEveryDoor:
    """How users come to load a checkpoint, and what other libraries do to it."""

    @pytest.mark.parametrize(
        'door', [pretrained, init_cfg, load_from, resume, recognizer]
    )
    def test_mmengine(self, door, hostile):
        with pytest.raises(pickle.UnpicklingError):
            door(str(hostile))

    @pytest.mark.parametrize('code', ['weights_only=False', 'pickle_module=pickle'])
    def test_loader_that_asks_for_everything(self, code, hostile, loaders):
        """As MMEngine 0.11 has it."""
        source = f"""
import pickle
def load_from_local(filename, map_location):
    return torch.load(filename, map_location=map_location, {code})
"""
        module = dict(vars(checkpoint))
        exec(source, module)
        CheckpointLoader.register_scheme('', module['load_from_local'], force=True)
        with pytest.raises(pickle.UnpicklingError):
            load_from(str(hostile))
        hub = MessageHub.get_instance('run')
        hub.update_scalar('loss', 1.0)
        torch.save(hub.state_dict(), hostile)
        got = CheckpointLoader.load_checkpoint(str(hostile))
        assert got['log_scalars']['loss'].mean() == 1

    def test_loader_of_another_library(self, hostile, loaders):
        """It replaced a sound one, after that was used."""
        torch.save(dict(state_dict={}), hostile.with_name('honest.pth'))
        load_from(str(hostile.with_name('honest.pth')))

        def load_from_elsewhere(filename, map_location):
            return torch.load(filename, map_location, weights_only=False)

        CheckpointLoader.register_scheme('', load_from_elsewhere, force=True)
        with pytest.raises(RuntimeError, match='got .*load_from_elsewhere, which runs'):
            load_from(str(hostile))

    def test_loader_of_another_scheme(self, hostile, loaders):
        def load_from_elsewhere(filename, map_location):
            file = filename.partition('://')[2]
            return torch.load(file, map_location, weights_only=False)

        CheckpointLoader.register_scheme('elsewhere://', load_from_elsewhere)
        with pytest.raises(RuntimeError, match='got .*load_from_elsewhere, which runs'):
            load_from(f'elsewhere://{hostile}')

    def test_replaced_names(self, hostile, monkeypatch):
        """A library that wants the names of MMEngine's loaders for itself."""
        monkeypatch.setattr(checkpoint, 'torch', torch)
        monkeypatch.setattr(checkpoint, 'load_url', torch.hub.load_state_dict_from_url)
        for name in (str(hostile), hostile.as_uri().replace('file', 'http')):
            with pytest.raises((pickle.UnpicklingError, OSError)):
                load_from(name)
        assert checkpoint.load_url is weights_only.load_url

    def test_replaced_torch_load(self, hostile, monkeypatch):
        """Some libraries do so to be able to load their old files."""
        original = torch.load

        def load(file, *args, **kwargs):
            kwargs.pop('pickle_module', None)
            return original(file, *args, **{**kwargs, 'weights_only': False})

        monkeypatch.setattr(torch, 'load', load)
        with pytest.raises(RuntimeError, match='got .*load, which runs the code'):
            load_from(str(hostile))
        # As often as not, they only change what is asked for by default.
        monkeypatch.setattr(torch, 'load', lambda *a, **k: original(*a, **k))
        with pytest.raises(pickle.UnpicklingError):
            load_from(str(hostile))

    def test_replaced_torch_load_of_another_loader(self, hostile, loaders, monkeypatch):
        """A loader that was sound with PyTorch's own."""
        original = torch.load

        def load_from_elsewhere(filename, map_location):
            return torch.load(filename, map_location, weights_only=True)

        CheckpointLoader.register_scheme('', load_from_elsewhere, force=True)
        with pytest.raises(pickle.UnpicklingError):
            load_from(str(hostile))
        monkeypatch.setattr(
            torch, 'load', lambda f, *a, **k: original(f, weights_only=False)
        )
        with pytest.raises(RuntimeError, match='got .*load_from_elsewhere, which runs'):
            load_from(str(hostile))

    def test_nobody_else_sees_it(self, hostile, loaders):
        """A thread that loads its own files beside it, say."""
        seen = []

        def load_from_elsewhere(filename, map_location):
            thread = Thread(target=lambda: seen.append(torch.load))
            thread.start()
            thread.join()
            return {}

        CheckpointLoader.register_scheme('elsewhere://', load_from_elsewhere)
        CheckpointLoader.load_checkpoint('elsewhere://file')
        assert set(seen) == {torch.serialization.load}

    def test_loaders_that_cannot_be_known(self, hostile, monkeypatch):
        monkeypatch.delattr(CheckpointLoader, '_get_checkpoint_loader')
        with pytest.raises(RuntimeError, match='expected to be told by what'):
            load_from(str(hostile))

    def test_where_there_is_no_file_in_memory(self, hostile, loaders, monkeypatch):
        monkeypatch.delattr('os.memfd_create', raising=False)
        self.test_loader_of_another_library(hostile, loaders)


@pytest.fixture
def loaders():
    """Give MMEngine its own loaders back."""
    kept = dict(CheckpointLoader._schemes)
    yield
    CheckpointLoader._schemes = kept


def test_tool_on_disk(hostile, tmp_path):
    """What loads in a process of its own, after ``doctor --fix``."""
    edit = weights_only.REPAIR.on_disk[0]
    text = edit.target().read_text()
    tool = tmp_path / 'publish_model.py'
    tool.write_text(text.replace(edit.old, edit.new))
    # Of PyTorch; without the edit, the code of the file runs.
    env = dict(TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1')
    out = run(
        sys.executable,
        tool,
        hostile,
        tmp_path / 'out.pth',
        cwd=tmp_path,
        env=env,
        check=False,
    )
    assert 'UnpicklingError' in out
