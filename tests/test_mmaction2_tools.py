"""MMAction2's own tools on a config of this repository."""

import hashlib
import re
import sys
from functools import partial

import cv2
import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from PIL import Image, ImageSequence

from aia_mmaction.repairs import all_repairs

from .conftest import IN_PROCESS, REPO, mim, mmaction2, run

pytestmark = pytest.mark.slow

CONFIG = REPO / 'configs' / 'tsn_r18_cinst_motion-pairs.py'
PLAIN = REPO / 'configs' / 'tsn_r18_motion-pairs.py'
VIDEO = 'data/motion_pairs/videos/test/00000.avi'
TINY = [
    *IN_PROCESS,
    'train_cfg.max_epochs=1',
    'param_scheduler=None',
    'default_hooks.checkpoint.save_best=None',
    'train_dataloader.batch_size=8',
    'train_dataloader.dataset.indices=8',
]
MIM_RUN = (sys.executable, '-m', 'mim', 'run', 'mmaction')
# Stands in for moviepy, which brings an ffmpeg of 68 MB with it. MMAction2's
# tools hand it their finished frames.
MOVIEPY = """
import cv2
from PIL import Image


class ImageSequenceClip:

    def __init__(self, frames, fps):
        self.frames, self.fps = frames, fps

    def write_gif(self, path, **kwargs):
        first, *others = [Image.fromarray(frame) for frame in self.frames]
        first.save(path, save_all=True, append_images=others)

    def write_videofile(self, path, **kwargs):
        writer = cv2.VideoWriter(
            path, cv2.VideoWriter_fourcc(*'mp4v'), self.fps,
            self.frames[0].shape[1::-1])
        for frame in self.frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()
"""


@pytest.fixture(scope='module')
def work_dir(motion_pairs, tmp_path_factory):
    """A trained checkpoint, its predictions and the log of the test."""
    folder = tmp_path_factory.mktemp('trained')
    mmaction2(
        'train',
        CONFIG,
        '--work-dir',
        folder,
        '--seed',
        0,
        '--cfg-options',
        *TINY,
        cwd=motion_pairs,
    )
    # As MMAction2's configs are, without the hook that --show-dir needs
    without_hook = Config.fromfile(CONFIG)
    del without_hook.default_hooks.visualization
    without_hook.dump(folder / 'without_hook.py')
    log = mmaction2(
        'test',
        folder / 'without_hook.py',
        folder / 'epoch_1.pth',
        '--work-dir',
        folder / 'test',
        '--dump',
        folder / 'pred.pkl',
        '--show-dir',
        folder / 'shown',
        '--interval',
        32,
        '--cfg-options',
        *IN_PROCESS,
        cwd=motion_pairs,
    )
    (folder / 'test.log').write_text(log)
    return folder


@pytest.fixture
def moviepy(tmp_path, monkeypatch):
    folder = tmp_path / 'site' / 'moviepy'
    folder.mkdir(parents=True)
    (folder / '__init__.py').touch()
    (folder / 'editor.py').write_text(MOVIEPY)
    monkeypatch.syspath_prepend(folder.parent)
    for name in ('moviepy', 'moviepy.editor'):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def tested_accuracy(work_dir):
    """What `mim test` says."""
    log = (work_dir / 'test.log').read_text()
    accuracy = {
        key: float(re.findall(rf'acc/{key}: ([\d.]+)', log)[-1])
        for key in ('top1', 'top5', 'mean1')
    }
    assert accuracy['top5'] > 0  # zeros would agree with any failure
    return accuracy


def test_show_dir(work_dir, motion_pairs):
    """The frames that the network got, under the labels."""
    (folder,) = (work_dir / 'shown').iterdir()
    assert folder.name == '00000.avi_0'
    assert len(list(folder.glob('frames_0/*.png'))) == 8
    cfg = Config.fromfile(CONFIG)
    sample = Compose(cfg.test_pipeline)(
        dict(filename=str(motion_pairs / VIDEO), label=0, start_index=0, modality='RGB')
    )
    for i in (0, 7):
        shown = cv2.imread(str(folder / 'frames_0' / f'{i}.png'))[..., ::-1]
        frame = sample['inputs'][i].permute(1, 2, 0).numpy()
        assert np.abs(shown[20:].astype(int) - frame[20:]).mean() < 1
        # A dark box with text
        assert (shown[:12] < 0.6 * frame[:12] + 3).mean() > 0.4


def test_get_flops(motion_pairs):

    def flops_and_params(config):
        log = mmaction2('get_flops', config, '--shape', 8, 3, 48, 48, cwd=motion_pairs)
        assert 'Input shape: (8, 3, 48, 48)' in log
        return (
            float(re.search(r'Flops: ([\d.]+)G', log)[1]),
            float(re.search(r'Params: ([\d.]+)M', log)[1]),
        )

    flops, params = np.subtract(flops_and_params(CONFIG), flops_and_params(PLAIN))
    # Two blocks per stage, four gates each, 54 multiplications per value of a
    # gate.
    frames = 8
    values = sum(
        frames * size * size + channels * size * size + 2 * frames * channels * size
        for size, channels in ((12, 64), (6, 128), (3, 256), (2, 512))
    )
    # The tool prints three decimals.
    assert flops == pytest.approx(2 * 54 * values / 1e9, abs=1.1e-3)
    assert flops > 5e-3
    assert params == pytest.approx(8 * 4 * 56 / 1e6, abs=1.1e-3)
    assert params > 0


def test_eval_metric(motion_pairs, work_dir, tested_accuracy):
    log = mmaction2('eval_metric', CONFIG, work_dir / 'pred.pkl', cwd=motion_pairs)
    for key, value in tested_accuracy.items():
        # NumPy 2 prints np.float64(0.5).
        got = re.search(rf"'acc/{key}': (?:np\.float64\()?([\d.]+)", log)[1]
        assert float(got) == pytest.approx(value, abs=1e-4)


def test_report_accuracy(motion_pairs, work_dir, tested_accuracy):
    log = mmaction2(
        'report_accuracy',
        '--preds',
        work_dir / 'pred.pkl',
        '--coefficients',
        1,
        cwd=motion_pairs,
    )
    for key, name in (('top1', 'Top 1'), ('top5', 'Top 5'), ('mean1', 'Mean Class')):
        got = float(re.search(rf'{name} Accuracy: ([\d.]+)', log)[1])
        assert got == pytest.approx(tested_accuracy[key], abs=1e-4)


# `make setup` does that.
needs_fixed = pytest.mark.skipif(
    any(c.is_missing() for repair in all_repairs().values() for c in repair.on_disk),
    reason='needs `python -m aia_mmaction.doctor --fix`',
)


# The tool imports MMAction2's models before it reads the config.
@needs_fixed
@pytest.mark.parametrize(
    'source, tool',
    [
        ('pred.pkl', partial(run, *MIM_RUN, 'confusion_matrix')),
        ('epoch_1.pth', partial(mmaction2, 'confusion_matrix')),
    ],
    ids=['pred.pkl', 'epoch_1.pth'],
)
def test_confusion_matrix(motion_pairs, work_dir, tmp_path, source, tool):
    tool(
        CONFIG,
        work_dir / source,
        '--out',
        tmp_path / 'matrix.pkl',
        '--show-path',
        tmp_path / 'matrix.png',
        '--cfg-options',
        *IN_PROCESS,
        cwd=motion_pairs,
    )
    expected = np.zeros((8, 8), int)
    for sample in mmengine.load(work_dir / 'pred.pkl'):
        expected[sample['gt_label'].item(), sample['pred_label'].item()] += 1
    matrix = mmengine.load(tmp_path / 'matrix.pkl')
    np.testing.assert_array_equal(matrix.numpy(), expected)
    assert cv2.imread(str(tmp_path / 'matrix.png')) is not None


def test_vis_cam(motion_pairs, work_dir, tmp_path, moviepy):
    mmaction2(
        'vis_cam',
        CONFIG,
        work_dir / 'epoch_1.pth',
        VIDEO,
        '--device',
        'cpu',
        '--target-layer-name',
        'backbone/layer4/1/conv2/activate/after_norm/0',
        '--out-filename',
        tmp_path / 'cam.gif',
        cwd=motion_pairs,
    )
    frames = [
        np.asarray(frame.convert('RGB'), float)
        for frame in ImageSequence.Iterator(Image.open(tmp_path / 'cam.gif'))
    ]
    assert np.shape(frames) == (8, 48, 48, 3)
    pipeline = Compose(Config.fromfile(CONFIG).test_pipeline)
    video = pipeline(
        dict(
            filename=str(motion_pairs / VIDEO), label=-1, start_index=0, modality='RGB'
        )
    )['inputs']
    # The tool blends the frames with the map, half and half.
    heat = frames - video.permute(0, 2, 3, 1).numpy() / 2
    # GIF has 256 colours, so nearly.
    assert np.percentile(heat, 1) > -10
    assert np.percentile(heat, 99) < 255 / 2 + 10
    # A map without a gradient has one colour.
    assert heat.std(axis=(0, 1, 2)).max() > 5


def test_vis_scheduler(motion_pairs, tmp_path):
    # Without the number of videos it takes every epoch for one iteration.
    mmaction2(
        'vis_scheduler',
        CONFIG,
        '--not-show',
        '--save-path',
        tmp_path / 'lr.svg',
        '--dataset-size',
        24,
        '--cfg-options',
        'train_dataloader.batch_size=8',
        cwd=motion_pairs,
    )
    curve = max(
        re.findall(r'<path d="([^"]+)" clip-path', (tmp_path / 'lr.svg').read_text()),
        key=len,
    )
    # y grows downwards
    rate = [-float(y) for y in re.findall(r'[ML] [\d.]+ ([\d.]+)', curve)]
    assert len(rate) == 4 * 24 // 8
    # Up for the first of four epochs, then down.
    peak = int(np.argmax(rate))
    assert peak in (2, 3, 4)
    assert (np.diff(rate[: peak + 1]) > 0).all()
    assert (np.diff(rate[peak:]) <= 0).all() and rate[-1] < rate[0]


def test_browse_dataset(motion_pairs, tmp_path, moviepy):
    mmaction2(
        'browse_dataset',
        CONFIG,
        tmp_path / 'clips',
        '--show-number',
        2,
        cwd=motion_pairs,
    )
    clips = sorted((tmp_path / 'clips').iterdir())
    assert [clip.name for clip in clips] == ['video_0.mp4', 'video_1.mp4']
    for clip in clips:
        capture = cv2.VideoCapture(str(clip))
        frames = []
        ok, frame = capture.read()
        while ok:
            frames.append(frame)
            ok, frame = capture.read()
        # As the network sees them: 8 frames of 48 x 48, and they move.
        assert np.shape(frames) == (8, 48, 48, 3)
        assert np.std(frames, axis=0).max() > 20


def test_clip_feature_extraction(motion_pairs, work_dir, tmp_path):
    mmaction2(
        'clip_feature_extraction',
        CONFIG,
        work_dir / 'epoch_1.pth',
        tmp_path,
        '--cfg-options',
        *IN_PROCESS,
        cwd=motion_pairs,
    )
    files = sorted((tmp_path / 'test').glob('*.avi.pkl'))
    features = torch.stack([mmengine.load(file) for file in files])
    assert features.shape == (8, 512)
    # The classifier on top of them gives the scores of `mim test`.
    weights = torch.load(work_dir / 'epoch_1.pth')['state_dict']
    scores = torch.nn.functional.linear(
        features, weights['cls_head.fc_cls.weight'], weights['cls_head.fc_cls.bias']
    )
    expected = torch.stack(
        [sample['pred_score'] for sample in mmengine.load(work_dir / 'pred.pkl')]
    )
    torch.testing.assert_close(scores.softmax(1), expected, rtol=0, atol=1e-5)


@needs_fixed
def test_publish_model(motion_pairs, work_dir, tmp_path):
    run(
        *MIM_RUN,
        'publish_model',
        work_dir / 'epoch_1.pth',
        tmp_path / 'published.pth',
        cwd=motion_pairs,
    )
    (file,) = tmp_path.iterdir()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert re.fullmatch(rf'published_\d{{8}}-{digest[:8]}\.pth', file.name)
    # What is left can be loaded without this package.
    run(
        sys.executable,
        '-c',
        f'import torch; torch.load({str(file)!r}, weights_only=True)',
        cwd=tmp_path,
    )
    published = torch.load(file)
    assert set(published) == {'meta', 'state_dict'}
    trained = torch.load(work_dir / 'epoch_1.pth')['state_dict']
    assert any('gate_c' in key for key in trained)
    torch.testing.assert_close(published['state_dict'], trained, rtol=0, atol=0)


def test_print_config(motion_pairs):
    log = mmaction2(
        'print_config',
        CONFIG,
        '--options',
        'model.backbone.num_segments=4',
        cwd=motion_pairs,
    )
    text = log.split('Config:\n')[1].split('The script finished')[0]
    printed = Config.fromstring(text, '.py').model
    expected = Config.fromfile(CONFIG).model
    expected.backbone.num_segments = 4
    assert 'CinST' in str(printed.backbone.plugins)
    assert printed == expected


@pytest.mark.exhaustive
def test_gridsearch_over_modules(motion_pairs, tmp_path):
    """Values are names, so the config has to say `plugins` as a name too."""
    config = tmp_path / 'search.py'
    config.write_text(
        f"_base_ = {str(CONFIG)!r}\nmodel = dict(backbone=dict(plugins='CinST'))\n"
    )
    mim(
        'gridsearch',
        'mmaction',
        config,
        '--gpus',
        0,
        '--work-dir',
        tmp_path / 'run',
        '--search-args',
        '--model.backbone.plugins C2ST',
        '--cfg-options',
        *TINY,
        *(
            f'{split}_dataloader.dataset.pipeline.3.scale=(16,16)'
            for split in ('train', 'val')
        ),
        cwd=motion_pairs,
    )
    trained = torch.load(
        tmp_path / 'run_search_model.backbone.plugins_C2ST' / 'epoch_1.pth'
    )
    assert "plugins='C2ST'" in trained['meta']['cfg']
    gates = [key for key in trained['state_dict'] if key.endswith('gate_t.conv.weight')]
    assert len(gates) == 8
    # A cascade is two layers after a norm, the CinST of the config is one.
    assert all('after_norm.1.gate_t' in gate for gate in gates)
