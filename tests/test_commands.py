"""What a user types, run as a user types it."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import cv2
import mmengine
import numpy as np
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.utils import digit_version

from aia_mmaction.evaluation.dumps import load_dump

from .backbones.test_training_options import torchvision_layout
from .benchmarks import LABELS, NUM_FRAMES, make_benchmarks
from .conftest import (
    HALF_RESNET18,
    IN_PROCESS,
    MMACTION2_TOOLS,
    REPO,
    call,
    fresh,
    mim,
    mmaction2,
    needs_fast_paths,
    scores_of,
)

pytestmark = pytest.mark.slow

TSN_CINST = REPO / 'configs' / 'tsn_r18_cinst_motion-pairs.py'
MISSING = r'(\d+) of (\d+) keys of the attention are not in the checkpoint'
# A plain TSM as somebody has it who does not know this project.
PLAIN_TSM = """
_base_ = 'mmaction::_base_/default_runtime.py'
decode = [
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(32, 32), keep_ratio=False),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs')
]
sample = dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=4)
pipeline = [dict(type='DecordInit'), sample, *decode]
test_pipeline = [
    dict(type='DecordInit'), dict(test_mode=True, **sample), *decode]
model = dict(
    type='Recognizer2D',
    backbone=dict(
        type='ResNetTSM', depth=18, num_segments=4, pretrained=None,
        pretrained2d=False),
    cls_head=dict(
        type='TSMHead', num_classes=8, in_channels=512, num_segments=4,
        average_clips='prob'),
    data_preprocessor=dict(
        type='ActionDataPreprocessor', mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375], format_shape='NCHW'))
train_dataloader = dict(
    batch_size=8, num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='VideoDataset',
        ann_file='data/motion_pairs/motion_pairs_train_list_videos.txt',
        data_prefix=dict(video='data/motion_pairs/videos'),
        pipeline=pipeline))
val_dataloader = dict(
    batch_size=8, num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VideoDataset',
        ann_file='data/motion_pairs/motion_pairs_test_list_videos.txt',
        data_prefix=dict(video='data/motion_pairs/videos'),
        pipeline=test_pipeline, test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(type='AccMetric')
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
"""


def last_checkpoint(work_dir):
    return (work_dir / 'last_checkpoint').read_text().strip()


def scalars(work_dir, key):
    """All logged values of a scalar, over all runs in a work_dir."""
    lines = [
        json.loads(line)
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    return [line[key] for line in lines if key in line]


def reported_accuracy(log):
    return float(re.findall(r'acc/top1: ([\d.]+)', log)[-1])


class TestMainJob:
    """`mim train mmaction configs/tsm_r50_cinst_sthv1.py`."""

    config = REPO / 'configs' / 'tsm_r50_cinst_sthv1.py'

    @pytest.fixture
    def sthv1(self, tmp_path):
        make_benchmarks(tmp_path, ['sthv1'])
        plain = MODELS.build(dict(type='ResNet', depth=50))
        torch.save(torchvision_layout(plain), tmp_path / 'resnet50.pth')
        return tmp_path

    def test_train_test_and_predict(self, sthv1):
        options = [
            '--cfg-options',
            'model.backbone.pretrained=resnet50.pth',
            *IN_PROCESS,
        ]
        log = mim(
            'train',
            'mmaction',
            self.config,
            *options,
            'train_cfg.max_epochs=1',
            'train_dataloader.dataset.pipeline.4.scale=(64,64)',
            'val_dataloader.dataset.pipeline.3.crop_size=64',
            *(f'{split}_dataloader.batch_size=2' for split in ('train', 'val')),
            cwd=sthv1,
        )
        ((missing, of),) = re.findall(MISSING, log)
        assert missing == of == str(16 * 4 * 5)

        checkpoint = sthv1 / 'work_dirs/tsm_r50_cinst_sthv1/epoch_1.pth'
        dump = ['--dump', 'pred.pkl', *options]

        def predictions():
            dumped = load_dump(sthv1 / 'pred.pkl')
            assert dumped.labels.tolist() == list(LABELS)
            return dumped.scores.float()

        checkpoint_of_mim = ['--checkpoint', checkpoint]
        mim('test', 'mmaction', self.config, *checkpoint_of_mim, *dump, cwd=sthv1)
        dumped = predictions()
        protocol = 'test_dataloader.dataset.protocol=efficient'
        mmaction2('test', self.config, checkpoint, *dump, protocol, cwd=sthv1)
        assert not torch.equal(predictions(), dumped)

        from mmaction.apis import inference_recognizer, init_recognizer

        model = init_recognizer(str(self.config), str(checkpoint), device='cpu')
        result = inference_recognizer(
            model,
            dict(
                frame_dir=str(sthv1 / 'data/sthv1/rawframes/3'),
                total_frames=NUM_FRAMES,
                filename_tmpl='{:05}.jpg',
                start_index=1,
                modality='RGB',
                label=-1,
            ),
        )
        torch.testing.assert_close(scores_of([result])[0], dumped[0], rtol=0, atol=1e-5)

    def test_without_the_dataset(self, tmp_path):
        log = mmaction2('train', self.config, cwd=tmp_path, check=False)
        assert 'data/sthv1/sthv1_train_list_rawframes.txt' in log
        assert 'python tools/data/prepare.py sthv1 (docs/datasets.md)' in log
        assert (REPO / 'docs' / 'datasets.md').exists()


def test_warm_start(motion_pairs, half_tsn, tmp_path):
    """The options that docs/training.md gives for a trained network, with its gates."""
    page = (REPO / 'docs/training.md').read_text().replace('\\\n', ' ')
    (options,) = re.findall(
        r'^mim train .* --cfg-options load_from=\S+ (.*)', page, re.M
    )
    opened = 'model.backbone.plugins.0.cfg.init=identity'
    assert f'`{opened}`' in page
    plain = tmp_path / 'plain.py'
    plain.write_text(f"_base_ = '{half_tsn}'\nmodel = dict(backbone=dict(plugins=[]))")
    train_tsn(motion_pairs, plain, tmp_path / 'plain')
    checkpoint = last_checkpoint(tmp_path / 'plain')
    for name, more in (('paper', []), ('opened', [opened])):
        log = train_tsn(
            motion_pairs,
            half_tsn,
            tmp_path / name,
            *(f'load_from={checkpoint}', *options.split(), *more),
        )
        ((missing, of),) = re.findall(MISSING, log)
        assert missing == of == str(4 * 4 * 5)
        found = torch.load(last_checkpoint(tmp_path / name), weights_only=False)
        rates = {g['initial_lr'] for g in found['optimizer']['param_groups']}
        assert max(rates) == pytest.approx(10 * min(rates))
        biases = [v for k, v in found['state_dict'].items() if k.endswith('.bias')]
        # Of 4 layers, those of T, H and W
        assert sum(int((v > 3).sum()) for v in biases) == (4 * 3 if more else 0)


@pytest.fixture(scope='module')
def half_tsn(tmp_path_factory):
    """Config of half a TSN-R18 with CinST, whose checkpoints are soon written."""
    path = tmp_path_factory.mktemp('half') / 'half_tsn.py'
    path.write_text(f"_base_ = '{TSN_CINST}'\nmodel = {HALF_RESNET18}\n")
    return path


def train_tsn(cwd, config, work_dir, *options, flags=(), check=True):
    """Train on the motion pairs, one epoch of 16 videos."""
    fixed = [
        *IN_PROCESS,
        'train_cfg.max_epochs=1',
        'train_dataloader.dataset.indices=16',
        'train_dataloader.dataset.pipeline.3.scale=(32,32)',
        'train_dataloader.batch_size=8',
        'default_hooks.logger.interval=1',
    ]
    return mmaction2(
        'train',
        config,
        '--work-dir',
        work_dir,
        *flags,
        '--cfg-options',
        *fixed,
        *options,
        cwd=cwd,
        check=check,
    )


def test_training_run(motion_pairs, half_tsn, tmp_path):
    """Loss falls, training resumes, test reproduces validation."""

    def train(max_epochs, *flags):
        return train_tsn(
            motion_pairs,
            half_tsn,
            tmp_path,
            f'train_cfg.max_epochs={max_epochs}',
            'optim_wrapper.optimizer.lr=0.15',
            flags=['--seed=0', *flags],
        )

    train(10)
    loss = scalars(tmp_path, 'loss')
    assert len(loss) == 10 * 2
    assert np.mean(loss[-4:]) < 0.8 * np.mean(loss[:4])

    log = train(11, '--resume')
    assert 'resumed epoch: 10' in log
    assert len(scalars(tmp_path, 'loss')) == 11 * 2
    accuracy = scalars(tmp_path, 'acc/top1')
    assert len(accuracy) == 11

    log = mmaction2(
        'test',
        half_tsn,
        last_checkpoint(tmp_path),
        '--work-dir',
        tmp_path / 'test',
        '--dump',
        tmp_path / 'pred.pkl',
        '--cfg-options',
        *IN_PROCESS,
        cwd=motion_pairs,
    )
    assert reported_accuracy(log) == pytest.approx(accuracy[-1], abs=1e-4)
    dumped = load_dump(tmp_path / 'pred.pkl')
    assert sorted(dumped.labels.tolist()) == list(range(8))

    from mmaction.apis import MMAction2Inferencer

    inferencer = MMAction2Inferencer(
        rec=str(half_tsn), rec_weights=last_checkpoint(tmp_path), device='cpu'
    )
    video = motion_pairs / 'data/motion_pairs/videos/test/00000.avi'
    scores = inferencer(str(video))['predictions'][0]['rec_scores'][0]
    np.testing.assert_allclose(scores, dumped.scores[0].numpy(), rtol=0, atol=1e-5)


def test_amp(motion_pairs, half_tsn, tmp_path):
    log = train_tsn(
        motion_pairs, half_tsn, tmp_path, 'param_scheduler=None', flags=['--amp']
    )
    assert "type='AmpOptimWrapper'" in log
    loss = scalars(tmp_path, 'loss')
    assert loss and np.isfinite(loss).all()


def test_awkward_videos(tmp_path):
    """Files that decord reads wrongly or not at all, among sound ones."""
    pytest.importorskip('av')
    videos = REPO / 'tests' / 'data' / 'videos'
    broken = 'invalid_vp9_bitstream-bug_1416.webm'
    names = sorted(
        path.name
        for path in videos.iterdir()
        if path.suffix != '.md' and path.name not in (broken, 'chunk_out_of_range.mp4')
    )
    for split, listed in dict(train=[broken, *names], test=names).items():
        lines = [f'{name} {i % 8}\n' for i, name in enumerate(listed)]
        (tmp_path / f'{split}.txt').write_text(''.join(lines))
    data = [
        f'{phase}_dataloader.{key}={value}'
        for phase, split in (('train', 'train'), ('val', 'test'), ('test', 'test'))
        for key, value in {
            'dataset.ann_file': tmp_path / f'{split}.txt',
            'dataset.data_prefix.video': videos,
            'batch_size': 4,
            'num_workers': 2,
        }.items()
    ]
    data.append('train_cfg.max_epochs=1')
    options = ['--cfg-options', *data]
    mmaction2('train', TSN_CINST, *options, cwd=tmp_path, how=fresh)
    work_dir = tmp_path / 'work_dirs' / TSN_CINST.stem
    loss = scalars(work_dir, 'loss')
    assert loss and np.isfinite(loss).all()
    mmaction2(
        'test',
        TSN_CINST,
        last_checkpoint(work_dir),
        '--dump',
        tmp_path / 'pred.pkl',
        *options,
        cwd=tmp_path,
        how=fresh,
    )
    dumped = load_dump(tmp_path / 'pred.pkl')
    assert [Path(name).name for name in dumped.names] == names
    assert len(names) == 7


@needs_fast_paths  # the compiler of PyTorch 2.1 fails elsewhere
@pytest.mark.exhaustive
def test_compile(motion_pairs, half_tsn, tmp_path, monkeypatch):
    """`compile=True` of MMEngine, up to the code that Inductor writes."""
    # A process of its own, because Dynamo keeps what it compiled.
    monkeypatch.setenv('TORCH_LOGS', 'recompiles,graph_breaks')
    log = mim(
        'train',
        'mmaction',
        half_tsn,
        '--work-dir',
        tmp_path,
        '--cfg-options',
        'compile.backend=aot_eager',
        'model.backbone.plugins.0.cfg.impl=fused',
        *IN_PROCESS,
        'train_cfg.max_epochs=2',
        'train_dataloader.dataset.indices=16',
        'default_hooks.logger.interval=1',
        cwd=motion_pairs,
    )
    loss = scalars(tmp_path, 'loss')
    assert len(loss) == 2 and np.isfinite(loss).all()
    # Not for each of the four blocks, and not again after the validation
    assert not re.search(r'(Recompiling|Graph break).*aia_mmaction', log)
    assert 'recompile_limit' not in log


def test_num_segments_disagree(motion_pairs, tmp_path):
    log = train_tsn(
        motion_pairs,
        TSN_CINST,
        tmp_path,
        'model.backbone.num_segments=4',
        check=False,
    )
    assert 'expected 4 frames per clip everywhere' in log
    assert 'got 8 in train_dataloader.dataset.pipeline.1.num_clips' in log


def test_r2plus1d(tmp_path):
    make_benchmarks(tmp_path, ['kinetics400'])
    config = REPO / 'configs/r2plus1d_r34_cinst_kinetics400.py'
    options = [
        '--cfg-options',
        *IN_PROCESS,
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        'train_dataloader.batch_size=2',
        'default_hooks.logger.interval=1',
        'train_dataloader.dataset.pipeline.1.frame_interval=1',
        'train_dataloader.dataset.pipeline.5.scale=(48,48)',
        'val_dataloader.dataset.pipeline.3.scale=(-1,48)',
        'val_dataloader.dataset.pipeline.4.crop_size=48',
        'test_dataloader.dataset.pipeline.1.num_clips=2',
        'test_dataloader.dataset.pipeline.3.scale=(-1,48)',
        'test_dataloader.dataset.pipeline.4.crop_size=48',
    ]
    log = mmaction2('train', config, *options, cwd=tmp_path)
    assert 'acc/top1' in log
    work_dir = tmp_path / 'work_dirs/r2plus1d_r34_cinst_kinetics400'
    loss = scalars(work_dir, 'loss')
    assert len(loss) == 1 and np.isfinite(loss[0])
    # two clips x three crops
    mmaction2(
        'test',
        config,
        last_checkpoint(work_dir),
        '--dump',
        'pred.pkl',
        *options,
        cwd=tmp_path,
    )
    dumped = load_dump(tmp_path / 'pred.pkl')
    assert dumped.labels.tolist() == list(LABELS)
    assert dumped.scores.shape == (2, 400)


TRAIN = partial(mmaction2, 'train')


class TestThreeWays:
    """AIA in a config or model of somebody else."""

    @pytest.fixture(scope='class')
    def plain(self, motion_pairs):
        (motion_pairs / 'plain_tsm.py').write_text(PLAIN_TSM)
        mmaction2('train', 'plain_tsm.py', cwd=motion_pairs)
        return motion_pairs

    def train_and_test(self, cwd, config, *options, train=TRAIN):
        work_dir = cwd / 'work_dirs' / 'aia'
        options = ['--cfg-options', *IN_PROCESS, *options]
        log = train(config, '--work-dir', work_dir, *options, cwd=cwd)
        checkpoint = last_checkpoint(work_dir)
        assert any('gate_c' in key for key in torch.load(checkpoint)['state_dict'])
        accuracy = scalars(work_dir, 'acc/top1')[-1]
        tested = mmaction2(
            'test',
            config,
            checkpoint,
            '--work-dir',
            work_dir / 'test',
            *options,
            cwd=cwd,
        )
        assert reported_accuracy(tested) == pytest.approx(accuracy, abs=1e-4)
        return log

    @pytest.mark.exhaustive  # the README's other ways are quicker to try
    def test_child_config_fine_tunes_a_plain_checkpoint(self, plain):
        (plain / 'aia_tsm.py').write_text(
            "_base_ = 'plain_tsm.py'\n"
            "load_from = 'work_dirs/plain_tsm/epoch_1.pth'\n"
            'model = dict(backbone=dict(\n'
            "    type='aia_mmaction.AIAResNetTSM',\n"
            "    plugins=[dict(cfg=dict(type='STinC'),\n"
            '                  stages=(False, True, True, True))]))\n'
        )
        log = self.train_and_test(plain, 'aia_tsm.py')
        ((missing, of),) = re.findall(MISSING, log)
        assert missing == of == str(6 * 4 * 5)
        assert '0 other keys of the backbone are missing' in log

    def test_cfg_options_on_mmaction2_s_config(self, plain):
        name = 'tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb.py'
        (config,) = (MMACTION2_TOOLS.parent / 'configs').rglob(name)
        root, data = 'data/motion_pairs', []
        for split, part in (('train', 'train'), ('val', 'test'), ('test', 'test')):
            dataset = f'{split}_dataloader.dataset'
            list_file = f'{root}/motion_pairs_{part}_list_videos.txt'
            data += [
                f'{dataset}.ann_file={list_file}',
                f'{dataset}.data_prefix.video={root}/videos',
                f'{dataset}.indices=8',
                f'{dataset}.pipeline.3.scale=(-1,64)',
                f'{dataset}.pipeline.4.'
                f'{"input_size" if split == "train" else "crop_size"}=64',
                f'{split}_dataloader.batch_size=4',
            ]
        # Validation and test of this config differ in views; make them agree.
        data += [
            'train_dataloader.dataset.pipeline.5.scale=(64,64)',
            'test_dataloader.dataset.pipeline.1.twice_sample=False',
            'test_dataloader.dataset.pipeline.4.type=CenterCrop',
        ]
        self.train_and_test(
            plain,
            config,
            'model.backbone.type=aia_mmaction.AIAResNetTSM',
            'model.backbone.pretrained=None',
            'model.backbone.pretrained2d=False',
            *data,
            'train_cfg.max_epochs=1',
            'default_hooks.checkpoint.interval=1',
            train=partial(mmaction2, 'train', how=fresh),
        )

    def test_insert_plugins_into_a_model(self, plain, monkeypatch):
        (plain / 'my_backbone.py').write_text(
            'from aia_mmaction import insert_plugins\n'
            'from mmaction.models import ResNetTSM\n'
            'from mmaction.registry import MODELS\n\n\n'
            '@MODELS.register_module()\n'
            'def MyBackbone(**kwargs):\n'
            '    model = ResNetTSM(**kwargs)\n'
            "    return insert_plugins(model, [dict(cfg=dict(type='CinST'))])"
            '\n'
        )
        (plain / 'my_config.py').write_text(
            "_base_ = 'plain_tsm.py'\n"
            "custom_imports = dict(imports=['my_backbone'])\n"
            "model = dict(backbone=dict(type='MyBackbone'))\n"
        )
        monkeypatch.syspath_prepend(plain)
        self.train_and_test(plain, 'my_config.py')


def test_optical_flow(tmp_path):
    """MMAction2's own config, whose clips of five frames are channels of one."""
    for video in 'ab':
        folder = tmp_path / 'flow' / video
        folder.mkdir(parents=True)
        for i in range(1, 17):
            for axis in 'xy':
                picture = np.random.RandomState(i).randint(0, 256, (40, 48), np.uint8)
                cv2.imwrite(str(folder / f'{axis}_{i:05d}.jpg'), picture)
    (tmp_path / 'list.txt').write_text('a 16 0\nb 16 1\n')
    config = (
        'mmaction::recognition/tsn/'
        'tsn_imagenet-pretrained-r50_8xb32_5x1x3-110e_kinetics400-flow.py'
    )
    (tmp_path / 'flow.py').write_text(f"""
_base_ = {config!r}
custom_imports = dict(imports=['aia_mmaction'])
model = dict(
    backbone=dict(type='AIAResNet', num_segments=3, depth=18, pretrained=None),
    cls_head=dict(in_channels=512))
""")
    options = [
        *IN_PROCESS,
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        'default_hooks.checkpoint.interval=1',
        'train_dataloader.dataset.pipeline.4.scale=(32,32)',
        *(
            f'{split}_dataloader.{option}'
            for split in ('train', 'val', 'test')
            for option in (
                'dataset.ann_file=list.txt',
                'dataset.data_prefix.img=flow',
                'batch_size=2',
            )
        ),
        'val_dataloader.dataset.pipeline.2.scale=(-1,32)',
        'val_dataloader.dataset.pipeline.3.crop_size=32',
    ]
    log = mmaction2('train', 'flow.py', '--cfg-options', *options, cwd=tmp_path)
    assert 'got 25 in test_dataloader.dataset.pipeline.0.num_clips' in log
    work_dir = tmp_path / 'work_dirs' / 'flow'
    assert np.isfinite(scalars(work_dir, 'loss')).all()
    assert 0 <= scalars(work_dir, 'acc/top1')[-1] <= 1


# Of tools/demo.py and tools/ablation.py
ONE_EPOCH = [
    '--cfg-options',
    *IN_PROCESS,
    'train_cfg.max_epochs=1',
    'param_scheduler=None',
    '--dataset-args',
    '--num-train',
    16,
    '--num-test',
    8,
]


def without_a_process(command, env=None):
    """A command of these tools, which `make demo` runs as it is."""
    assert isinstance(command, list)  # no shell reads it
    _, *command = command
    if command[:2] == ['-m', 'mim']:
        _, _, verb, _, *args = command
        args = [arg for arg in args if arg != '--checkpoint']
        mmaction2(verb, *args, cwd=Path.cwd())
    else:
        call(*command, cwd=Path.cwd())


def test_demo(tmp_path, monkeypatch):
    work_dir = 'work_dirs/$(touch canary); touch canary'
    command = [REPO / 'tools/demo.py', '--work-dir', work_dir, *ONE_EPOCH]
    commands = []

    def remember(command, env=None):
        commands.append(command[2:5])
        return without_a_process(command)

    monkeypatch.setattr('subprocess.call', remember)
    monkeypatch.setattr('aia_mmaction.study.costs.REPEATS', 1)
    call(*command, cwd=tmp_path)
    assert not list(tmp_path.rglob('canary'))
    report = (tmp_path / work_dir / 'report.md').read_text()
    rows = re.findall(
        r'\| (tsn_r18\S+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| [\d,]+ \((\S+)\)',
        report,
    )
    names = ['tsn_r18_motion-pairs', 'tsn_r18_cinst_motion-pairs']
    assert [row[0] for row in rows] == names
    assert [row[4] for row in rows] == ['+0', '+1,792']
    for _, top1, of_pairs, either, _ in rows:
        assert top1 == of_pairs and float(top1) <= float(either) <= 100
        assert float(top1) % 12.5 == 0  # 8 videos
    for name in ('learning_curves.png', 'accuracy_and_time.png', 'confusion.png'):
        assert name in report
        assert cv2.imread(str(tmp_path / work_dir / name)) is not None

    # What is there is not trained again, with or without its checkpoints.
    shutil.rmtree(tmp_path / work_dir / names[0])
    shutil.rmtree(tmp_path / work_dir / names[1] / 'seed0')
    commands.clear()
    call(*command, cwd=tmp_path)
    assert not list(tmp_path.rglob('canary'))
    test = ['mim', 'test', 'mmaction']  # forwards, and played backwards
    assert commands[1:] == [['mim', 'train', 'mmaction'], test, test]
    assert (tmp_path / work_dir / names[0] / 'seed0/epoch_1.pth').exists()
    command[command.index('train_cfg.max_epochs=1')] = 'train_cfg.max_epochs=2'
    printed = call(*command, cwd=tmp_path, check=False)
    assert 'got those of another config' in printed


def test_study(motion_pairs, tmp_path, monkeypatch):
    """Of a config as MMAction2 has them, whose dumps do not name their videos."""
    monkeypatch.setattr('subprocess.call', without_a_process)
    monkeypatch.setattr('aia_mmaction.study.costs.REPEATS', 1)
    config = tmp_path / 'my_tsm.py'
    text = PLAIN_TSM.replace("'ResNetTSM'", "'aia_mmaction.AIAResNetTSM'")
    config.write_text(text)
    study = [REPO / 'tools/study.py', config, '--modules', 'CinST', '--seeds', 0]
    study += ['--out', tmp_path / 'out', '--work-dir', tmp_path / 'work']
    call(*study, cwd=motion_pairs)
    record = json.loads((tmp_path / 'out/my_tsm+CinST/seed0.json').read_text())
    assert record['videos'] == [f'0000{i}.avi' for i in range(8)]
    assert '8 test videos of 8 classes' in (tmp_path / 'out/report.md').read_text()


@pytest.mark.exhaustive  # the demo is trained and tested by the same functions
def test_ablation(tmp_path, monkeypatch):
    monkeypatch.setattr('subprocess.call', without_a_process)
    command = [REPO / 'tools/ablation.py', '--modules', 'C2ST', '--out', 'docs/here']
    call(*command, *ONE_EPOCH, cwd=tmp_path)
    out, folder = tmp_path / 'docs/here', tmp_path / 'work_dirs/ablation'
    report = (out / 'report.md').read_text()
    assert (out / 'tsn_r18_motion-pairs+C2ST/seed0.json').exists()
    assert not list(out.rglob('*.pth'))
    # 8 layers x 4 gates x (54 weights of the kernel, 2 of the norm)
    row = r'motion-pairs\+C2ST \| [\d.]+ .* \(\+1,792\) \| [\d,]+ M \(\+[\d.]+%\)'
    assert re.search(row, report)
    # the module that the row names was trained
    made = folder / 'tsn_r18_motion-pairs+C2ST/seed0'
    text = next(made.glob('2*/vis_data/config.py')).read_text()
    assert "plugins='C2ST'" in text


PURE_PYTHON_TSM = """
from mmaction.datasets import (DecordDecode, DecordInit, FormatShape,
                               PackActionInputs, Resize, SampleFrames)
from mmaction.evaluation import AccMetric
from mmaction.models import (ActionDataPreprocessor, Recognizer2D, ResNetTSM,
                             TSMHead)
from mmengine.dataset import DefaultSampler
from mmengine.runner import EpochBasedTrainLoop, TestLoop, ValLoop
from torch.optim import SGD

from aia_mmaction.datasets import BenchmarkVideoDataset

default_scope = 'mmaction'
num_segments = 4
model = dict(
    type=Recognizer2D,
    backbone=dict(
        type=ResNetTSM, depth=18, num_segments=num_segments, pretrained=None,
        pretrained2d=False),
    cls_head=dict(
        type=TSMHead, num_classes=8, in_channels=512,
        num_segments=num_segments, average_clips='prob'),
    data_preprocessor=dict(
        type=ActionDataPreprocessor, mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375], format_shape='NCHW'))
decode = [
    dict(type=DecordDecode),
    dict(type=Resize, scale=(32, 32), keep_ratio=False),
    dict(type=FormatShape, input_format='NCHW'),
    dict(type=PackActionInputs)
]
sample = dict(type=SampleFrames, clip_len=1, num_clips=num_segments)
train_dataloader = dict(
    batch_size=8, num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(
        type=BenchmarkVideoDataset, guide='the README',
        ann_file='data/motion_pairs/motion_pairs_train_list_videos.txt',
        data_prefix=dict(video='data/motion_pairs/videos'),
        pipeline=[dict(type=DecordInit), sample, *decode]))
val_dataloader = dict(
    batch_size=8, num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=BenchmarkVideoDataset, guide='the README', test_mode=True,
        ann_file='data/motion_pairs/motion_pairs_test_list_videos.txt',
        data_prefix=dict(video='data/motion_pairs/videos'),
        pipeline=[
            dict(type=DecordInit), dict(test_mode=True, **sample), *decode]))
test_dataloader = val_dataloader
val_evaluator = dict(type=AccMetric)
test_evaluator = val_evaluator
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=1)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
optim_wrapper = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9))
"""
PURE_PYTHON_AIA = """
from mmengine.config import read_base

from aia_mmaction import AIAResNetTSM, CinST, ParallelAttention, STinC

with read_base():
    from .pure_tsm import *

model.backbone.update(
    type=AIAResNetTSM,
    plugins=[dict(cfg=dict(
        type=ParallelAttention, branches=[dict(type=CinST), dict(type=STinC)]
    ))])
"""


@pytest.mark.skipif(
    digit_version(mmengine.__version__) < digit_version('0.9'),
    reason='MMEngine 0.8 does not import from a config',
)
def test_pure_python_config(motion_pairs):
    """A config of imports instead of strings, as MMEngine's newer ones.

    Of these MMEngine does not make the custom_imports, so it takes an
    installation on which `doctor --fix` was run, as `make setup` does.
    """
    (motion_pairs / 'pure_tsm.py').write_text(PURE_PYTHON_TSM)
    (motion_pairs / 'pure.py').write_text(PURE_PYTHON_AIA)
    mmaction2('train', 'pure.py', cwd=motion_pairs, how=fresh)
    work_dir = motion_pairs / 'work_dirs' / 'pure'
    checkpoint = last_checkpoint(work_dir)
    assert any(
        'after_norm.0.branches.1.gate_c' in key
        for key in torch.load(checkpoint)['state_dict']
    )
    tested = mmaction2(
        'test',
        'pure.py',
        checkpoint,
        '--work-dir',
        work_dir / 'test',
        cwd=motion_pairs,
    )
    assert reported_accuracy(tested) == pytest.approx(
        scalars(work_dir, 'acc/top1')[-1], abs=1e-4
    )
    log = mmaction2(
        'train',
        'pure.py',
        '--cfg-options',
        'model.backbone.num_segments=8',
        cwd=motion_pairs,
        check=False,
    )
    assert 'expected 8 frames per clip everywhere' in log
