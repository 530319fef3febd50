"""Every config builds, with its data, its optimizer and a step of training."""

import math
import re
from itertools import filterfalse, product

import pytest
import torch
from mmaction.registry import DATASETS, MODELS
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner

from aia_mmaction.datasets.flip_by_label_name import SHIPPED
from aia_mmaction.datasets.protocols import PROTOCOLS
from aia_mmaction.plugins import attention_layers

from .benchmarks import LABELS, make_benchmarks
from .conftest import REPO, exhaustive_but, labels_of, read_config

CLASSES = dict(sthv1=174, sthv2=174, jester=27, diving48=48, egtea=106, kinetics400=400)
# name: (backbone, attention, dataset, frames)
CONFIGS = {}
for model, attention, dataset, frames in product(
    ('tsn', 'tsm'),
    ('CinST', 'STinC'),
    (
        'sthv1',
        'sthv2',
        'jester',
        'diving48',
        'egtea-split1',
        'egtea-split2',
        'egtea-split3',
    ),
    (8, 16),
):
    suffix = '_16f' if frames == 16 else ''
    CONFIGS[f'{model}_r50_{attention.lower()}_{dataset}{suffix}.py'] = (
        dict(tsn='AIAResNet', tsm='AIAResNetTSM')[model],
        attention,
        dataset,
        frames,
    )
for attention, dataset in product(('CinST', 'STinC'), ('kinetics400', 'sthv2')):
    CONFIGS[f'r2plus1d_r34_{attention.lower()}_{dataset}.py'] = (
        'AIAResNet2Plus1d',
        attention,
        dataset,
        8,
    )
# For a CPU: 8 frames of 96 x 96
SMALL_CONFIGS = {
    f'{model}_mobilenetv2{suffix}_{dataset}.py': (
        dict(tsn='AIAMobileNetV2', tsm='AIAMobileNetV2TSM')[model],
        layers,
        num_classes,
    )
    for model in ('tsn', 'tsm')
    for suffix, layers in {
        '': (),
        '_cinst': ('CinST',) * 17,
        '_stinc': ('STinC',) * 17,
    }.items()
    for dataset, num_classes in {'utd-mhad': 27, 'jhmdb-split1': 21}.items()
}
# What `make test-fast` takes of them
QUICK = ('tsn_r50_cinst_sthv1.py', 'tsm_r50_stinc_sthv2.py')
FRAME_CONFIGS = [name for name in CONFIGS if 'r2plus1d' not in name]


@pytest.fixture(scope='session')
def benchmarks(tmp_path_factory):
    root = tmp_path_factory.mktemp('benchmarks')
    make_benchmarks(root)
    return root


@pytest.fixture
def data(benchmarks, monkeypatch):
    """The directory from which a user starts."""
    monkeypatch.chdir(benchmarks)


def load(name):
    cfg = read_config(name)
    cfg.model.backbone.pretrained = None
    if 'tsm' in name:
        cfg.model.backbone.pretrained2d = False
    return cfg


def test_every_config_is_tested():
    files = {p.name for p in (REPO / 'configs').glob('*.py')}
    assert files == {
        *CONFIGS,
        *SMALL_CONFIGS,
        'tsn_r18_motion-pairs.py',
        'tsn_r18_cinst_motion-pairs.py',
    }


def is_another_split(name):
    return 'split2' in name or 'split3' in name


@pytest.mark.slow
@pytest.mark.parametrize('name', filter(is_another_split, CONFIGS))
def test_splits_differ_in_their_lists_alone(name):
    cfg, first = load(name), load(re.sub('split[23]', 'split1', name))
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        other, one = (c[loader].dataset.pop('ann_file') for c in (cfg, first))
        assert other == one.replace(
            'split_1', f'split_{re.search("split(.)", name)[1]}'
        )
    assert cfg.to_dict() == first.to_dict()


def of_first_dataset(name):
    """The first config of the same network."""
    return next(n for n in CONFIGS if CONFIGS[n][:2] == CONFIGS[name][:2])


def how_often(name):
    """Each network and each dataset in `make test`, every pair in `make test-all`."""
    if name in QUICK:
        return ()
    first = next(n for n in CONFIGS if CONFIGS[n][2:] == CONFIGS[name][2:])
    if name in (first, of_first_dataset(name)):
        return pytest.mark.slow
    return pytest.mark.exhaustive


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=how_often(name))
        for name in filterfalse(is_another_split, CONFIGS)
    ],
)
def test_training_data_and_one_step(name, data):
    """A step for one dataset of each network, as the others have the same one."""
    backbone, attention, dataset, frames = CONFIGS[name]
    cfg = load(name)
    takes_step = name == of_first_dataset(name)
    with torch.device('cpu' if takes_step else 'meta'):
        model = MODELS.build(cfg.model)
    assert type(model.backbone).__name__ == backbone
    layers = attention_layers(model.backbone)
    assert len(layers) == 16
    assert {type(layer).__name__ for _, layer in layers} == {attention}

    videos = DATASETS.build(cfg.train_dataloader.dataset)
    batch = pseudo_collate([videos[0], videos[1]])
    assert labels_of(batch['data_samples']) == list(LABELS)
    shape = (
        (1, 3, 8, 224, 224) if backbone == 'AIAResNet2Plus1d' else (frames, 3, 224, 224)
    )
    assert all(x.shape == shape for x in batch['inputs'])

    assert model.cls_head.fc_cls.out_features == CLASSES[dataset.split('-')[0]]
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    if not takes_step:
        return
    before = layers[0][1].gate_t.conv.weight.clone()
    # A corner of the frames is enough for the step.
    batch['inputs'] = [x[..., :32, :32] for x in batch['inputs']]
    model.train()
    losses = model.train_step(batch, optim_wrapper)
    assert torch.isfinite(losses['loss'])
    assert not torch.equal(layers[0][1].gate_t.conv.weight, before)


def of_first_model(name):
    """The config of the same data, which is tested for all of them."""
    return name.replace('tsm', 'tsn').replace('stinc', 'cinst')


@pytest.mark.slow
@pytest.mark.parametrize('name', [n for n in CONFIGS if n != of_first_model(n)])
def test_data_is_the_same_for_every_model(name):
    cfg, first = load(name), load(of_first_model(name))
    for key in cfg:
        if key.endswith(('dataloader', 'pipeline', 'evaluator')):
            assert cfg[key] == first[key], key


@pytest.mark.parametrize(
    'name',
    exhaustive_but(
        QUICK,
        [n for n in CONFIGS if n == of_first_model(n) and not is_another_split(n)],
    ),
)
def test_test_data(name, data):
    """Validation, the protocols, and the pipeline for inference."""
    cfg = load(name)
    backbone, _, dataset, frames = CONFIGS[name]
    validation = DATASETS.build(cfg.val_dataloader.dataset)
    assert len(validation) == 2
    is_3d = backbone == 'AIAResNet2Plus1d'
    for protocol, views, size in (
        ('efficient', 1, 224),
        ('accurate', 6, 256),
        ('authors', 1, 240),
    ):
        videos = DATASETS.build(dict(cfg.test_dataloader.dataset, protocol=protocol))
        inputs = videos[0]['inputs']
        assert inputs.shape == (
            (views, 3, frames, size, size) if is_3d else (views * frames, 3, size, size)
        )
        if protocol == 'authors' and 'kinetics' not in name:
            assert torch.equal(inputs, validation[0]['inputs'])
            assert cfg.test_pipeline == cfg.test_dataloader.dataset.pipeline


@pytest.mark.parametrize(
    'name',
    exhaustive_but(
        QUICK,
        [
            *CONFIGS,
            *SMALL_CONFIGS,
            'tsn_r18_motion-pairs.py',
            'tsn_r18_cinst_motion-pairs.py',
        ],
    ),
)
def test_bad_videos_are_named(name):
    """Left out in training, an error in testing."""
    cfg = load(name)
    for split in ('train', 'val', 'test'):
        decoders = [
            t
            for t in cfg[f'{split}_dataloader'].dataset.pipeline
            if 'Decode' in t['type'] or t['type'].endswith('Init')
        ]
        assert decoders
        for decoder in decoders:
            assert decoder['type'].startswith('Readable')
            assert (decoder.get('on_error') == 'skip') == (split == 'train')


def test_protocols_are_all_tested():
    assert set(PROTOCOLS) == {'efficient', 'accurate', 'authors'}


@pytest.mark.parametrize('name', exhaustive_but(QUICK, FRAME_CONFIGS))
def test_authors_recipe(name):
    cfg = load(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('SGD', 0.01, 1e-4)
    assert cfg.optim_wrapper.clip_grad.max_norm == 20
    assert cfg.train_cfg.max_epochs == 50
    assert cfg.param_scheduler[0].milestones == [20, 40]
    assert cfg.auto_scale_lr.base_batch_size == 40
    assert cfg.train_dataloader.batch_size * 4 == 40
    assert cfg.model.cls_head.dropout_ratio == 0.5
    assert not cfg.model.backbone.get('partial_bn', False)


@pytest.mark.parametrize(
    'name',
    exhaustive_but((*QUICK, 'r2plus1d_r34_stinc_kinetics400.py'), CONFIGS),
)
def test_attention_may_have_a_learning_rate_of_its_own(name):
    """``--cfg-options optim_wrapper.paramwise_cfg.attention_lr_mult=10``."""
    optim_wrapper = load(name).optim_wrapper
    assert optim_wrapper.constructor == 'AIAOptimWrapperConstructor'
    assert optim_wrapper.paramwise_cfg.attention_lr_mult == 1


class Regression(BaseModel):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(1, 1)

    def forward(self, x, mode):
        return dict(loss=self.fc(x).square().mean())


def test_schedule_of_the_demo_is_as_long_as_training(tmp_path):
    """`--cfg-options train_cfg.max_epochs=6` is all there is to say."""
    cfg = read_config('tsn_r18_motion-pairs.py')
    rates = []

    class Rates(Hook):
        def after_train_iter(self, runner, *args, **kwargs):
            rates.extend(runner.optim_wrapper.get_lr()['lr'])

    Runner(
        Regression(),
        tmp_path,
        train_dataloader=dict(
            dataset=[torch.ones(1)] * 10,
            batch_size=1,
            sampler=dict(type='DefaultSampler'),
        ),
        optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.param_scheduler,
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=6),
        default_hooks=dict(checkpoint=None, logger=None),
        custom_hooks=[Rates()],
    ).train()
    assert len(rates) == 60
    assert rates.index(max(rates)) in (9, 10)  # after the first of six epochs
    # The fall has begun by then.
    assert max(rates) == pytest.approx(0.02 * (1 + math.cos(math.pi / 6)) / 2, rel=0.02)
    assert rates[-1] < 0.02 / 1000


@pytest.mark.parametrize('name', exhaustive_but(QUICK, FRAME_CONFIGS))
def test_num_segments_agree(name):
    cfg = load(name)
    frames = CONFIGS[name][3]
    assert cfg.model.backbone.num_segments == frames
    assert cfg.model.cls_head.get('num_segments', frames) == frames
    for pipeline in (
        cfg.train_pipeline,
        cfg.test_pipeline,
        *(
            cfg[f'{split}_dataloader'].dataset.pipeline
            for split in ('train', 'val', 'test')
        ),
    ):
        (sample,) = [t for t in pipeline if t.type == 'SampleFrames']
        assert sample.num_clips == frames


@pytest.fixture(scope='session')
def small_datasets(tmp_path_factory, motion_pairs):
    """Lists as prepare.py makes them, of other videos."""
    root = tmp_path_factory.mktemp('small')
    for name, split in product(
        ('utd-mhad/utd-mhad_{}_list_videos.txt', 'jhmdb/jhmdb_{}_split_1_videos.txt'),
        ('train', 'test'),
    ):
        path = root / 'data' / name.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('train/00000.avi 0\ntrain/00001.avi 20\n')
        videos = path.parent / 'videos'
        if not videos.exists():
            videos.symlink_to(motion_pairs / 'data/motion_pairs/videos')
    return root


@pytest.mark.parametrize(
    'name',
    exhaustive_but(
        ('tsn_mobilenetv2_stinc_utd-mhad.py', 'tsm_mobilenetv2_jhmdb-split1.py'),
        SMALL_CONFIGS,
    ),
)
def test_small_config(name, small_datasets, monkeypatch, on_meta):
    monkeypatch.chdir(small_datasets)
    backbone, layers, num_classes = SMALL_CONFIGS[name]
    cfg = load(name)
    model = MODELS.build(cfg.model)
    assert type(model.backbone).__name__ == backbone
    found = tuple(type(m).__name__ for _, m in attention_layers(model.backbone))
    assert found == layers
    assert model.cls_head.fc_cls.out_features == num_classes
    assert read_config(name).model.backbone.pretrained == 'mmcls://mobilenet_v2'
    assert cfg.train_cfg.max_epochs == cfg.train_cfg.val_begin == 12
    for split in ('train', 'val', 'test'):
        videos = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
        assert videos[0]['inputs'].shape == (8, 3, 96, 96)
    # A mirrored video of UTD-MHAD can be of another class.
    flips = [t for t in cfg.train_pipeline if 'Flip' in t.type]
    expected = 'FlipByLabelName' if 'utd' in name else 'Flip'
    assert [t.type for t in flips] == [expected]


def test_reversed_pairs_of_utd_mhad():
    names = (SHIPPED / 'utd-mhad.txt').read_text().splitlines()
    pairs = read_config('tsn_mobilenetv2_utd-mhad.py').reversed_pairs
    assert [(names[a], names[b]) for a, b in pairs] == [
        ('swipe_left', 'swipe_right'),
        ('draw_circle_cw', 'draw_circle_ccw'),
        ('sit2stand', 'stand2sit'),
    ]
