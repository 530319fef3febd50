"""TorchServe answers with the scores of MMAction2."""

import base64
import importlib.util
import shutil
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from mmaction.apis import inference_recognizer, init_recognizer
from mmaction.registry import MODELS
from mmengine.config import Config

from aia_mmaction import deployment

from ..conftest import REPO

VIDEO = REPO / 'tests/data/videos/testsrc2_mpeg4.mp4'
NAMES = [f'class {i}' for i in range(8)]


@pytest.fixture
def handler_class(tmp_path, monkeypatch):
    """Of the copy that an archive has, which TorchServe loads by its path."""
    base = ModuleType('ts.torch_handler.base_handler')
    base.BaseHandler = object
    for name in ('ts', 'ts.torch_handler'):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, base.__name__, base)
    (folder,) = deployment.__path__
    copy = shutil.copy(f'{folder}/torchserve.py', tmp_path)
    spec = importlib.util.spec_from_file_location('handler', copy)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.RecognizerHandler


@pytest.fixture
def archive(tmp_path):
    """What TorchServe unpacks."""
    cfg = Config.fromfile(REPO / 'configs/tsn_r18_cinst_motion-pairs.py')
    cfg.dump(tmp_path / 'config.py')
    torch.manual_seed(0)
    state = MODELS.build(cfg.model).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'epoch_1.pth')
    return tmp_path


@pytest.mark.parametrize('has_names', [True, False])
def test_handler(handler_class, archive, has_names):
    if has_names:
        (archive / 'label_map.txt').write_text('\n'.join(NAMES))
    handler = handler_class()
    handler.initialize(
        SimpleNamespace(
            system_properties=dict(model_dir=str(archive), gpu_id=None),
            manifest=dict(model=dict(serializedFile='epoch_1.pth')),
        )
    )
    video = VIDEO.read_bytes()
    requests = [dict(data=video), dict(body=base64.b64encode(video).decode())]
    answers = handler.postprocess(handler.inference(handler.preprocess(requests)))

    model = init_recognizer(
        str(archive / 'config.py'), str(archive / 'epoch_1.pth'), 'cpu'
    )
    expected = inference_recognizer(model, str(VIDEO)).pred_score
    best = expected.argsort(descending=True)[:5].tolist()
    for answer in answers:
        labels = [NAMES[i] if has_names else str(i) for i in best]
        assert list(answer) == labels
        assert list(answer.values()) == pytest.approx(expected[best].tolist())
