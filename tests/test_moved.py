"""What version 0.1 called otherwise works on, with a warning."""

import pickle
import subprocess
import sys
from importlib import import_module

import mmaction.registry
import pytest
import torch
from mmaction.registry import MODELS

from aia_mmaction.utils.moved import DATASETS, MODULES, NAMES

from .preloaded import run_code


@pytest.fixture
def not_imported(monkeypatch):
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize('old', MODULES)
def test_modules(old, not_imported):
    with pytest.warns(FutureWarning, match=f'{old} is {MODULES[old]} since'):
        module = import_module(old)
    new = import_module(MODULES[old])
    assert module is new and new.__spec__.name == MODULES[old]


@pytest.mark.parametrize('old', NAMES)
def test_names(old):
    module, _, name = old.rpartition('.')
    with pytest.warns(FutureWarning, match=f'{old} is'):
        found = getattr(import_module(module), name)
    new, attribute = NAMES[old]
    assert found is getattr(import_module(new), attribute)


@pytest.mark.parametrize('old', DATASETS)
@pytest.mark.parametrize('scope', ['', 'aia_mmaction.'])
def test_registered_names(old, scope, tmp_path):
    (tmp_path / 'list.txt').write_text('a 3 0\n')
    cfg = dict(ann_file=str(tmp_path / 'list.txt'), pipeline=[], guide='the docs')
    with pytest.warns(FutureWarning, match=f'{old} is {DATASETS[old]} since'):
        dataset = mmaction.registry.DATASETS.build(dict(type=f'{scope}{old}', **cfg))
    assert type(dataset).__name__ == DATASETS[old]


def test_a_name_that_never_was():
    with pytest.raises(AttributeError, match='no attribute'):
        assert import_module('aia_mmaction.backbones').attend


def test_pickled_model(not_imported):
    """torch.save(model), written by version 0.1."""
    torch.manual_seed(0)
    model = MODELS.build(dict(type='AIAResNet', depth=18, num_segments=2)).eval()
    text = pickle.dumps(model, protocol=0)  # in which names are plain lines
    for old, new in MODULES.items():
        if new != 'aia_mmaction.backbones.registered':
            text = text.replace(f'c{new}\n'.encode(), f'c{old}\n'.encode())
    text = text.replace(
        b'caia_mmaction.backbones.registered\n', b'caia_mmaction.backbones.resnet\n'
    )
    assert text.count(b'caia_mmaction.backbones.') > 3
    with pytest.warns(FutureWarning):
        loaded = pickle.loads(text)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))


EXAMPLES = """
import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope
init_default_scope('mmaction')
def tsm(**backbone):
    return MODELS.build(dict(
        type='Recognizer2D',
        backbone=dict(depth=18, num_segments=2, pretrained2d=False, **backbone),
        cls_head=dict(
            type='TSMHead', num_classes=3, in_channels=512, num_segments=2)))
tsm(type='aia_mmaction.AIAResNetTSM')
tsm(type='aia_mmaction.AIAResNetTSM', plugins=[dict(cfg=dict(type='CinST'))])
tsm(type='aia_mmaction.AIAResNetTSM', plugins='C2ST')
tsm(type='aia_mmaction.AIAResNetTSM',
    plugins=[dict(cfg=dict(type='CinST', impl='fused'))])

from aia_mmaction import insert_plugins
model = tsm(type='ResNetTSM')
insert_plugins(model, [dict(cfg=dict(type='CinST'))])
import aia_mmaction
print(len(aia_mmaction.backbones.attention_layers(model)), 'layers')

from aia_mmaction import AIAResNetTSM, CinST
CinST()(torch.zeros(1, 4, 2, 3, 3))
CinST(num_segments=8)(torch.zeros(8, 4, 3, 3))
MODELS.build(dict(type='aia_mmaction.AIANeck', plugins='CinST'))
from mmaction.registry import TRANSFORMS
TRANSFORMS.build(dict(type='FlipByLabelName', labels='sthv1'))
"""


@pytest.mark.slow
def test_examples_of_the_readme_of_version_0_1(tmp_path):
    code, printed = run_code(EXAMPLES, tmp_path, {'AIA_MMACTION_IMPL': 'reference'})
    assert code == 0, printed
    assert '8 layers' in printed
    assert 'aia_mmaction.backbones.attention_layers is aia_mmaction.plugins.' in printed


def test_nothing_of_ours_uses_the_old_names():
    code = 'import warnings; warnings.simplefilter("error", FutureWarning)\n'
    code += 'import aia_mmaction, aia_mmaction.checks, aia_mmaction.visualization'
    subprocess.run([sys.executable, '-c', code], check=True)
