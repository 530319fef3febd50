"""The flagship configs do what the authors of AIA did, number for number.

The numbers are those of their published code and of the paper. Where the
configs differ, the test says so: the class order of Something-Something V1, and
``fc_lr5``, the higher rate of the last layer, which the paper does not name.
"""

import random

import numpy as np
import pytest
import torch
from mmaction.models.backbones.resnet_tsm import TemporalShift
from mmaction.registry import MODELS, PARAM_SCHEDULERS
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper

from aia_mmaction.datasets.flip_by_label_name import SHIPPED
from aia_mmaction.plugins import attention_layers

from .conftest import exhaustive_but, read_config

# name: (frames per clip, classes that a mirror exchanges)
FLAGSHIPS = {
    # in MMAction2's order; the authors sort the classes and have {86: 87, ...}
    'tsm_r50_cinst_sthv1.py': (8, {2: 4, 30: 41, 52: 66}),
    'tsm_r50_cinst_sthv2.py': (8, {86: 87, 93: 94, 166: 167}),
    'tsm_r50_cinst_sthv1_16f.py': (16, {2: 4, 30: 41, 52: 66}),
    'tsn_r50_cinst_sthv1.py': (8, {2: 4, 30: 41, 52: 66}),
}
each_flagship = pytest.mark.parametrize(
    'name', exhaustive_but(['tsm_r50_cinst_sthv1.py'], FLAGSHIPS)
)
BASE_RATE, DECAY = 0.01, 1e-4
# The sides of crops in a frame of 240 x 320: 1, .875, .75 and .66 of 240
SIDES = [240, 210, 180, 158]


def build(name):
    cfg = read_config(name)
    cfg.model.backbone.pretrained = None
    if 'tsm' in name:
        cfg.model.backbone.pretrained2d = False
    torch.manual_seed(0)
    return cfg, MODELS.build(cfg.model)


class Coordinates:
    """In place of a decoder: red is x, green is y, both in units of the frame of
    240 x 320; the frames are of another size, as videos are.
    """

    def __call__(self, results):
        y, x = np.mgrid[0:480, 0:640]
        frame = np.stack([x * 0.4, y * 0.5, 0 * x], axis=-1).astype(np.uint8)
        self.frames = results['frame_inds']
        results['imgs'] = [frame.copy() for _ in results['frame_inds']]
        results['img_shape'] = results['original_shape'] = frame.shape[:2]
        return results


def pipeline(cfg, loader):
    transforms = cfg[f'{loader}_dataloader'].dataset.pipeline
    decoder = Coordinates()
    kept = [t for t in transforms if not t['type'].endswith('Init')]
    return decoder, Compose(
        [decoder if t['type'].endswith('Decode') else t for t in kept]
    )


def sample(label=0, start_index=1, total_frames=50):
    return dict(
        label=label,
        start_index=start_index,
        total_frames=total_frames,
        modality='RGB',
        filename_tmpl='{:05}.jpg',
    )


def crop_of(image):
    """Left, top, width and height in the frame of 240 x 320, to a pixel or two, and
    whether it is mirrored. The red of 320 pixels is 255.
    """
    x, y = image[0].float().mean(0) * 320 / 256, image[1].float().mean(1)
    flipped = bool(x[0] > x[-1])
    x = x.flip(0) if flipped else x
    # Between the middles of the outermost pixels
    pixel = 1 - 1 / len(x)
    width, height = ((axis[-1] - axis[0]).item() / pixel for axis in (x, y))
    return x[0].item(), y[0].item(), width, height, flipped


@each_flagship
def test_training_crops_and_flips(name):
    """Frames at 240 x 320, multi-scale crops at 13 places, flips that know the
    label; one crop for all frames of a clip.
    """
    cfg = read_config(name)
    frames, pairs = FLAGSHIPS[name]
    pairs = {**pairs, **{b: a for a, b in pairs.items()}}
    decoder, transforms = pipeline(cfg, 'train')
    random.seed(0)
    np.random.seed(0)
    label = next(iter(pairs))
    seen, flips = set(), 0
    for _ in range(120):
        data = transforms(sample(label))
        inputs = data['inputs']
        assert inputs.shape == (frames, 3, 224, 224)
        assert torch.equal(inputs, inputs[:1].expand_as(inputs))
        left, top, width, height, flipped = crop_of(inputs[0])
        w, h = (min(SIDES, key=lambda side: abs(side - got)) for got in (width, height))
        assert abs(w - width) < 4 and abs(h - height) < 4, (width, height)
        assert abs(SIDES.index(w) - SIDES.index(h)) <= 1
        # in steps of a quarter of what is left
        for offset, space in ((left, 320 - w), (top, 240 - h)):
            assert min(abs(offset - i * (space // 4)) for i in range(5)) < 3
        seen.add((w, h))
        flips += flipped
        got = data['data_samples'].gt_label.item()
        assert got == (pairs[label] if flipped else label)
    assert len(seen) == 4 + 2 * 3  # each side with itself and its neighbours
    assert 45 < flips < 75


@each_flagship
def test_training_frames(name):
    """One frame of each of so many equal parts of the video."""
    frames, _ = FLAGSHIPS[name]
    decoder, transforms = pipeline(read_config(name), 'train')
    np.random.seed(0)
    chosen = []
    for _ in range(60):
        transforms(sample(total_frames=5 * frames + 3))
        chosen.append(decoder.frames - 1)
    parts = np.stack(chosen) // 5
    assert (parts == np.arange(frames)).all()
    assert all(len(set(column)) == 5 for column in np.stack(chosen).T)


@each_flagship
@pytest.mark.parametrize('loader', ['val', 'test'])
def test_test_clip(name, loader):
    """The middle frames of the parts, and the centre 240 x 240 of 240 x 320."""
    cfg = read_config(name)
    frames, _ = FLAGSHIPS[name]
    decoder, transforms = pipeline(cfg, loader)
    total = 5 * frames + 3
    data = transforms(sample(label=3, total_frames=total))
    part = total / frames
    expected = [int(part / 2 + part * i) for i in range(frames)]
    assert (decoder.frames - 1).tolist() == expected
    inputs = data['inputs']
    assert inputs.shape == (frames, 3, 240, 240)
    left, top, width, height, flipped = crop_of(inputs[0])
    np.testing.assert_allclose((left, top, width, height), (40, 0, 240, 240), atol=2)
    assert not flipped
    assert data['data_samples'].gt_label.item() == 3


@pytest.mark.slow
@pytest.mark.parametrize('name', FLAGSHIPS)
def test_optimizer(name):
    """Each parameter's rate in each epoch, its decay, and the gradients' norm."""
    cfg, model = build(name)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    schedulers = [
        PARAM_SCHEDULERS.build(
            scheduler, default_args=dict(optimizer=wrapper, epoch_length=1)
        )
        for scheduler in cfg.param_scheduler
    ]
    assert type(wrapper.optimizer) is torch.optim.SGD
    assert all(group['momentum'] == 0.9 for group in wrapper.param_groups)
    # MMEngine adds a group of one number, which logs the base rate.
    group_of = {
        parameter: group
        for group in wrapper.param_groups
        for parameter in group['params']
        if isinstance(parameter, torch.nn.Parameter)
    }
    norms = {
        parameter
        for module in model.modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        for parameter in module.parameters()
    }
    assert len(group_of) == len(list(model.parameters())) and len(norms) > 200
    # 4 GPUs with 10 clips each
    assert cfg.auto_scale_lr.base_batch_size == 4 * cfg.train_dataloader.batch_size
    assert cfg.train_cfg.max_epochs == 50
    for epoch in range(50):
        rate = BASE_RATE * 0.1 ** ((epoch >= 20) + (epoch >= 40))
        for key, parameter in model.named_parameters():
            group = group_of[parameter]
            times = {'cls_head.fc_cls.weight': 5, 'cls_head.fc_cls.bias': 10}
            decayed = parameter not in norms and not key.endswith('.bias')
            assert group['lr'] == pytest.approx(rate * times.get(key, 1)), key
            assert group['weight_decay'] == (DECAY if decayed else 0), key
        wrapper.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()

    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for parameter in (model.cls_head.fc_cls.bias, model.backbone.conv1.norm.weight):
        parameter.grad.fill_(100)
    wrapper.optimizer.step = lambda *args, **kwargs: None
    wrapper.step()
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert norm.item() == pytest.approx(20, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('name', FLAGSHIPS)
def test_network(name):
    cfg, model = build(name)
    frames, _ = FLAGSHIPS[name]
    shifts = [m for m in model.modules() if isinstance(m, TemporalShift)]
    # An eighth of the channels each way, in all 16 blocks, before conv1
    assert len(shifts) == (16 if 'tsm' in name else 0)
    assert {(m.num_segments, m.shift_div) for m in shifts} <= {(frames, 8)}
    if shifts:
        for stage in range(1, 5):
            for block in getattr(model.backbone, f'layer{stage}'):
                assert isinstance(block.conv1.conv, TemporalShift)
    layers = attention_layers(model)
    assert len(layers) == 16
    assert {layer.num_segments for _, layer in layers} == {frames}
    assert model.cls_head.dropout.p == 0.5
    model.train()
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(m.training and m.weight.requires_grad for m in norms)  # no partial BN
    preprocessor = model.data_preprocessor
    assert preprocessor.mean.flatten().tolist() == pytest.approx(
        [123.675, 116.28, 103.53]
    )
    assert preprocessor.std.flatten().tolist() == pytest.approx([58.395, 57.12, 57.375])


def test_class_order():
    """V1's is that of the label file here, and sorted with the authors."""
    names = (SHIPPED / 'sthv1.txt').read_text().splitlines()
    assert sum(a == b for a, b in zip(names, sorted(names))) == 1
    names = (SHIPPED / 'sthv2.txt').read_text().splitlines()
    assert names == sorted(names)
