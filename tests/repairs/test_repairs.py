"""Every repair mends something that is broken without it."""

import re

import numpy as np
import pytest
import torch

from aia_mmaction import repairs
from aia_mmaction.repairs import DISABLE_VARIABLE, all_repairs, apply_repairs

from ..conftest import stack_as_installed
from ..preloaded import run_code

IN_MEMORY = [name for name, repair in all_repairs().items() if repair.mend]

# What a user does that fails without the repair.
USES = {
    'drn': 'import mmaction.models',
    'weights_only': """
import torch
from mmengine.logging import MessageHub
from mmengine.runner.checkpoint import _load_checkpoint
hub = MessageHub.get_instance('run')
hub.update_scalar('train/loss', 1.0)
hub.update_info('epoch', 1)
torch.save(dict(meta=dict(epoch=1), message_hub=hub.state_dict()), 'a.pth')
hub = _load_checkpoint('a.pth')['message_hub']
assert hub['log_scalars']['train/loss'].statistics('mean', 1) == 1
class Hostile:
    def __reduce__(self):
        return print, ('the code ran',)
torch.save(Hostile(), 'hostile.pth')
try:
    _load_checkpoint('hostile.pth')
except Exception as error:
    print('refused', error)
else:
    raise AssertionError('it was loaded')
""",
    'bfloat16_loss': """
import torch
from mmaction.models import TSNHead
from mmaction.structures import ActionDataSample
sample = ActionDataSample().set_gt_label(1)
scores = torch.randn(1, 8, dtype=torch.bfloat16, requires_grad=True)
losses = TSNHead(8, 4).loss_by_feat(scores, [sample])
losses['loss_cls'].backward()
""",
    'cpu_amp': """
import torch
from mmengine.optim import AmpOptimWrapper
model = torch.nn.Linear(4, 2)
wrapper = AmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), 0.1))
before = model.weight.clone()
with wrapper.optim_context(model):
    y = model(torch.randn(3, 4))
assert y.dtype == torch.bfloat16
wrapper.update_params(y.float().sum())
assert not torch.equal(before, model.weight)
""",
    'compile': """
import torch
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.runner import Runner
sample = ActionDataSample().set_gt_label(1)
data = 4 * [dict(inputs=torch.zeros(2, 3, 32, 32, dtype=torch.uint8),
                 data_samples=sample)]
Runner(
    dict(
        type='Recognizer2D',
        backbone=dict(type='ResNet', depth=18),
        cls_head=dict(type='TSNHead', num_classes=3, in_channels=512),
        data_preprocessor=dict(
            type='ActionDataPreprocessor', mean=[0.], std=[1.],
            format_shape='NCHW')),
    work_dir='work', train_dataloader=dict(
        dataset=data, batch_size=2, collate_fn=dict(type='pseudo_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False)),
    train_cfg=dict(by_epoch=True, max_epochs=1), default_scope='mmaction',
    # from a Config, as in every config file
    optim_wrapper=Config(dict(ow=dict(
        constructor='TSMOptimWrapperConstructor',
        paramwise_cfg=dict(fc_lr5=True),
        clip_grad=dict(max_norm=20),
        optimizer=dict(type='SGD', lr=0.01, weight_decay=1e-4)))).ow,
    cfg=Config(dict(compile=dict(backend='eager')))).train()
""",
    'gloo': """
import os
from mmengine.dist import init_dist, get_world_size, barrier
os.environ.update(RANK='0', LOCAL_RANK='0', WORLD_SIZE='1',
                  MASTER_ADDR='127.0.0.1', MASTER_PORT='0')
init_dist('pytorch', backend='gloo')
assert get_world_size() == 1
barrier()
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3, 2)
    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.fc(inputs)
runner = Runner(Model(), '.', launcher='pytorch',
                env_cfg=dict(dist_cfg=dict(backend='gloo')))
assert runner.model(torch.ones(2, 3)).shape == (2, 2)
""",
    'max_testing_views': """
import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope
init_default_scope('mmaction')
model = MODELS.build(dict(
    type='Recognizer2D',
    backbone=dict(type='ResNetTSM', depth=18, num_segments=2),
    cls_head=dict(type='TSMHead', num_classes=3, in_channels=512,
                  num_segments=2),
    test_cfg=dict(max_testing_views=2)))
model.eval()
with torch.no_grad():
    model.extract_feat(torch.randn(1, 4, 3, 32, 32), test_mode=True)
""",
    'single_map': """
import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope
init_default_scope('mmaction')
model = MODELS.build(dict(
    type='Recognizer2D', backbone=dict(type='ResNet', depth=18),
    neck=dict(type='AIANeck', num_segments=3)))
try:
    model.extract_feat(torch.zeros(1, 3, 3, 32, 32))
except ValueError as error:
    assert 'expected two or more maps' in str(error)
else:
    raise AssertionError('a single map was taken')
assert model.extract_feat(torch.zeros(1, 3, 3, 32, 32), 'backbone')
model = MODELS.build(dict(
    type='Recognizer2D',
    backbone=dict(type='ResNet', depth=18, out_indices=(2, 3)),
    neck=dict(type='AIANeck', num_segments=3)))
for _ in range(2):
    feature, _ = model.extract_feat(torch.zeros(1, 3, 3, 32, 32))
assert feature.shape == (1, 512, 1, 1)
assert not model.backbone._forward_hooks
""",
    'tsm_optimizer': """
import torch
from mmaction.registry import OPTIM_WRAPPER_CONSTRUCTORS
class Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(2, 2))
        self.norm = torch.nn.LayerNorm(2)
model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 1, 1), Scale(), torch.nn.Linear(2, 2))
constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(
    type='TSMOptimWrapperConstructor', paramwise_cfg=dict(fc_lr5=True),
    optim_wrapper_cfg=dict(
        optimizer=dict(type='SGD', lr=0.1, weight_decay=0.01))))
groups = constructor(model).optimizer.param_groups
found = {id(p): (g['lr'], g['weight_decay']) for g in groups for p in g['params']}
assert found.keys() == {id(p) for p in model.parameters()}
assert sum(len(g['params']) for g in groups) == len(found)
assert found[id(model[1].scale)] == (0.1, 0.01)
assert found[id(model[1].norm.weight)] == (0.1, 0)
assert found[id(model[2].weight)] == (0.5, 0.01)
""",
    # RLIMIT_FSIZE stands for a full disk
    'checkpoints': """
import resource, signal
from pathlib import Path
import torch
from mmengine.runner import save_checkpoint
last = Path('last.pth')
save_checkpoint(dict(a=torch.zeros(1000)), str(last))
before = last.read_bytes()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, most))
try:
    save_checkpoint(dict(a=torch.ones(2000)), str(last))
except OSError:
    pass
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
assert last.read_bytes() == before, 'it was overwritten'
assert list(Path().glob('*last*')) == [last]
assert not list(Path().glob('.*last*'))
""",
    # tests/test_wheel.py has whole configs
    'config_package': """
from mmengine.config.utils import _get_package_and_cfg_path
_get_package_and_cfg_path('aia_mmaction::_base_/default_runtime.py')
""",
    'numpy_names': """
import numpy as np
from mmaction.datasets.transforms import PoseCompact
keypoint = np.array([[[[20., 30.], [50., 70.], [0., 0.]]]])
results = PoseCompact(padding=0.)(dict(img_shape=(100, 100), keypoint=keypoint))
assert results['img_shape'] == (40, 30), results
assert np.in1d([[1, 2], [3, 4]], [2, 3]).tolist() == [False, True, True, False]
assert np.trapz([1, 3], [0, 2]) == 4
assert np.isnan(np.NAN)
""",
    # by hand: hues of 0, 60 and 120 in OpenCV's half degrees, less 25
    'color_jitter': """
import cv2, numpy as np
from mmaction.datasets.transforms import ColorJitter
hsv = np.array([[[0, 200, 200], [60, 200, 200], [120, 200, 200]]], np.uint8)
image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)
for factor, expected in ((-0.1, [155, 35, 95]), (0.1, [25, 85, 145])):
    jittered = ColorJitter.adjust_hue(image, factor)
    assert jittered.dtype == np.float32
    hue = cv2.cvtColor(jittered.astype(np.uint8), cv2.COLOR_RGB2HSV)[0, :, 0]
    assert abs(hue.astype(int) - expected).max() <= 1, hue
""",
    'list_files': """
from pathlib import Path
from mmaction.datasets import VideoDataset
Path('list.txt').write_bytes(b'\\xef\\xbb\\xbfa.mp4\\t1\\r\\n\\r\\n')
(sample,) = VideoDataset('list.txt', pipeline=[])
assert (sample['filename'], sample['label']) == ('a.mp4', 1), sample
""",
    'unchecked_configs': """
from pathlib import Path
from mmengine.runner import FlexibleRunner, Runner
Path('list.txt').write_text('a.mp4 3')
for kind in (Runner, FlexibleRunner):
    runner = kind(
        dict(type='Recognizer2D', backbone=dict(type='ResNet', depth=18),
             cls_head=dict(type='TSNHead', num_classes=3, in_channels=512)),
        work_dir='work', default_scope='mmaction', test_cfg=dict(),
        test_dataloader=dict(
            dataset=dict(type='VideoDataset', ann_file='list.txt', indices=1,
                         pipeline=[dict(type='PackActionInputs')]),
            batch_size=1, collate_fn=dict(type='pseudo_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False)),
        test_evaluator=dict(type='AccMetric'))
    try:
        runner.test()
    except ValueError as error:
        assert 'expected labels from 0 to 2' in str(error), error
    else:
        raise AssertionError('it was tested')
""",
    'flow_flip': """
import cv2, numpy as np
from mmaction.datasets.transforms import Flip, RawFrameDecode
for i in (1, 2):
    cv2.imwrite(f'x_{i:05d}.png', np.array([[100 + i, 140], [120, 130]], np.uint8))
    cv2.imwrite(f'y_{i:05d}.png', np.array([[50, 60], [70, 80]], np.uint8))
results = RawFrameDecode()(dict(
    frame_dir='.', filename_tmpl='{}_{:05d}.png', modality='Flow',
    frame_inds=np.array([1, 2]), img_shape=(2, 2)))
for i, img in enumerate(Flip(flip_ratio=1)(results)['imgs'], 1):
    assert img[..., 0].tolist() == [[115, 155 - i], [125, 135]], img
    assert img[..., 1].tolist() == [[60, 50], [80, 70]], img
""",
    'show_dir': """
import torch
from types import SimpleNamespace
from mmaction.engine.hooks import VisualizationHook
from mmaction.structures import ActionDataSample
from mmaction.visualization import ActionVisualizer
texts = []
class Visualizer(ActionVisualizer):
    def draw_texts(self, text, **kwargs):
        texts.append(text)
visualizer = Visualizer.get_instance('a')
visualizer.dataset_meta = dict(classes=['up', 'down', 'left'])
hook = VisualizationHook(enable=True, interval=1, out_dir='shown')
sample = ActionDataSample().set_gt_label(2).set_pred_label(0)
sample.set_pred_score(torch.tensor([0.7, 0.1, 0.2]))
for inputs in (torch.zeros(2, 3, 4, 5), torch.zeros(3, 3, 2, 4, 5)):
    hook.after_test_iter(
        SimpleNamespace(visualizer=visualizer), 0, dict(inputs=[inputs]), [sample])
assert len(texts) == 4
for text in texts:
    assert 'Ground truth: 2 (left)' in text, text
    assert 'Prediction: 0, 0.70 (up)' in text, text
hook.after_test_iter(  # optical flow, which is no picture
    SimpleNamespace(visualizer=visualizer), 0,
    dict(inputs=[torch.zeros(2, 10, 4, 5)]), [sample])
assert len(texts) == 4
""",
}

# What it says without the repair.
ERRORS = {
    'drn': "No module named 'mmaction.models.localizers.drn'",
    # Of MMEngine's own state; or that of the hostile one
    'weights_only': 'Weights only load failed|the code ran',
    'bfloat16_loss': 'unsupported ScalarType BFloat16',
    'cpu_amp': 'only available training on gpu',
    'compile': 'torch._dynamo.exc',
    'gloo': 'cuda',
    'max_testing_views': "has no attribute 'get'",
    'checkpoints': 'it was overwritten',
    'single_map': 'is invalid for input of size',
    'tsm_optimizer': 'New atomic module type',
    'config_package': 'does not support to load aia_mmaction config',
    'numpy_names': '`np.Inf` was removed in the NumPy 2.0 release',
    'color_jitter': 'out of bounds for uint8',
    'list_files': 'ValueError: too many values',
    'unchecked_configs': 'Cannot get `imgs`',
    'flow_flip': 'AssertionError',
    'show_dir': 'unexpected keyword argument',
}

# Where something is not broken
FINE = {
    'numpy_names': np.__version__.startswith('1.'),
    'color_jitter': np.__version__.startswith('1.'),
    'cpu_amp': torch.cuda.is_available(),
    'gloo': torch.cuda.is_available(),
    # The compiler of PyTorch 2.1 fails elsewhere.
    'compile': not hasattr(torch.library, 'custom_op'),
}
BROKEN = [name for name in IN_MEMORY if not FINE.get(name)]

MADE = 'aia_mmaction repaired on import: '
# Most of the time of a process is spent on imports.
USE_ALL = """
import traceback
import aia_mmaction

for name, use in {uses}.items():
    try:
        exec(use, dict(__name__='__main__'))
        print('<', name, 'works >')
    except BaseException:
        print(traceback.format_exc())
        print('<', name, 'fails >')
"""


def use(names, tmp_path, disable=()):
    """What was printed before each use, whether it works, and what else."""
    env = {
        'PYTHONPATH': str(stack_as_installed(tmp_path)),
        DISABLE_VARIABLE: ','.join(disable),
    }
    uses = {name: USES[name] for name in names}
    code, log = run_code(USE_ALL.format(uses=uses), tmp_path, env)
    *parts, last = re.split(r'< (\w+) (works|fails) >\n', log)
    printed = dict(zip(parts[1::3], parts[0::3]))
    return code, printed, dict(zip(parts[1::3], parts[2::3])), last


@pytest.mark.slow
def test_repairs(tmp_path):
    code, printed, found, last = use(BROKEN, tmp_path)
    assert found == dict.fromkeys(BROKEN, 'works'), (printed, last)
    (line,) = [line for line in ''.join(printed.values()).splitlines() if MADE in line]
    assert set(BROKEN) <= set(re.split(r'\W+', line.split(MADE)[1]))


@pytest.mark.exhaustive
@pytest.mark.parametrize('disable', [['drn'], [n for n in IN_MEMORY if n != 'drn']])
def test_broken_without_repairs(disable, tmp_path):
    """Without that of DRN, MMAction2 cannot even be imported."""
    names = [name for name in BROKEN if name in disable]
    code, printed, found, last = use(names, tmp_path, disable)
    if 'drn' in names:
        assert code != 0 and re.search(ERRORS['drn'], last)
        return
    if found.get('compile') == 'works':  # this PyTorch, 2.9 for one, compiles it
        names.remove('compile')
    for name in names:
        assert found[name] == 'fails', name
        assert re.search(ERRORS[name], printed[name]), printed[name]


@pytest.fixture
def always_broken(monkeypatch):
    monkeypatch.setattr(repairs, '_made', set())
    broken = {
        name: repair._replace(is_broken=lambda: True, mend=lambda: None)
        for name, repair in all_repairs().items()
        if repair.mend
    }
    monkeypatch.setattr(repairs, 'all_repairs', lambda: broken)


def test_all_can_be_disabled(always_broken, monkeypatch):
    monkeypatch.setenv(DISABLE_VARIABLE, 'all')
    assert apply_repairs() == []


def test_repairs_are_made_once(always_broken):
    assert apply_repairs() == IN_MEMORY
    assert apply_repairs() == []


def test_unknown_name(monkeypatch):
    monkeypatch.setenv(DISABLE_VARIABLE, 'drm')
    with pytest.raises(ValueError, match='expected "all" or names.*got drm'):
        apply_repairs()
