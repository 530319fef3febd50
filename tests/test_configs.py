import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config

from aia_mmaction.backbones import attention_layers

from .conftest import REPO

# name: (backbone, attention, classes, input of one clip)
CONFIGS = {
    f'{backbone}_{attention.lower()}_{dataset}.py':
    (cls, attention, classes, shape)
    for backbone, dataset, cls, classes, shape in (('tsn_r50', 'sthv1',
                                                    'AIAResNet', 174,
                                                    (8, 3, 64, 64)),
                                                   ('tsm_r50', 'sthv1',
                                                    'AIAResNetTSM', 174,
                                                    (8, 3, 64, 64)),
                                                   ('r2plus1d_r34',
                                                    'kinetics400',
                                                    'AIAResNet2Plus1d', 400,
                                                    (1, 3, 8, 64, 64)))
    for attention in ('CinST', 'STinC')
}


def test_every_config_is_tested():
    files = {p.name for p in (REPO / 'configs').glob('*.py')}
    assert files == {
        *CONFIGS, 'tsn_r18_motion-pairs.py', 'tsn_r18_cinst_motion-pairs.py'
    }


@pytest.mark.parametrize('name', CONFIGS)
def test_model(name):
    cls, attention, classes, shape = CONFIGS[name]
    cfg = Config.fromfile(REPO / 'configs' / name)
    cfg.model.backbone.pretrained = None
    model = MODELS.build(cfg.model).eval()
    assert type(model.backbone).__name__ == cls
    layers = attention_layers(model.backbone)
    assert len(layers) == 16
    assert {type(layer).__name__ for _, layer in layers} == {attention}
    with torch.no_grad():
        feature = model.backbone(torch.randn(shape))
        scores = model.cls_head(feature, num_segs=8)
    assert scores.shape == (1, classes)


@pytest.mark.parametrize('name', [n for n in CONFIGS if 'sthv1' in n])
def test_authors_recipe(name):
    cfg = Config.fromfile(REPO / 'configs' / name)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr,
            optimizer.weight_decay) == ('SGD', 0.01, 1e-4)
    assert cfg.optim_wrapper.clip_grad.max_norm == 20
    assert cfg.train_cfg.max_epochs == 50
    assert cfg.param_scheduler[0].milestones == [20, 40]
    assert cfg.auto_scale_lr.base_batch_size == 40
    assert cfg.model.cls_head.dropout_ratio == 0.5
    assert not cfg.model.backbone.get('partial_bn', False)


def test_num_segments_agree():
    for name in CONFIGS:
        cfg = Config.fromfile(REPO / 'configs' / name)
        if 'sthv1' in name:
            assert cfg.model.backbone.num_segments == 8
            assert cfg.model.cls_head.get('num_segments', 8) == 8
            for split in ('train', 'val', 'test'):
                pipeline = cfg[f'{split}_dataloader'].dataset.pipeline
                assert pipeline[0].num_clips == 8
