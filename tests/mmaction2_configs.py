"""The attention in every config of MMAction2 that it has a network for.

`make test-configs` walks the configs of recognition, skeletons and detection
that the installed mmaction2 ships. Each is switched on as the README says, and

- has the frames per clip that its own training and validation sample; where
  its test samples others, the error names an option, which is taken;
- trains for one step and predicts, at a small size;
- is with `plugins=[]` the plain network, to the bit.

It fails if the counts are not those of docs/backbones.md, and if a config that is
expected to fail begins to work.
"""

import argparse
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Dict, List, NamedTuple

import mmaction
import numpy as np
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope

import aia_mmaction
from aia_mmaction.benchmarking.untrained import build_untrained, forget_pretrained
from aia_mmaction.checks.num_segments import (
    PICTURE_CHANNELS,
    frames_per_clip,
    wrong_batch,
    wrong_num_segments,
)
from aia_mmaction.datasets.example import example_inputs, find_pipeline
from aia_mmaction.plugins import attention_layers
from aia_mmaction.utils.config import type_name

CONFIGS = Path(mmaction.__file__).parent / '.mim' / 'configs'
PAGE = Path(__file__).parent.parent / 'docs' / 'backbones.md'
EXAMPLES = (  # of each kind; `make test` has them
    'recognition/c2d/c2d_r50-in1k-pre_8xb32-8x8x1-100e_kinetics400-rgb.py',
    'recognition/csn/ircsn_ig65m-pretrained-r50-bnfrozen_8xb12-32x2x1-58e_'
    'kinetics400-rgb.py',
    'recognition/i3d/i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py',
    'recognition/r2plus1d/r2plus1d_r34_8xb8-8x8x1-180e_kinetics400-rgb.py',
    'recognition/slowfast/slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb.py',
    'recognition/slowonly/slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb.py',
    'recognition/tanet/tanet_imagenet-pretrained-r50_8xb8-1x1x8-50e_sthv1-rgb.py',
    'recognition/tin/tin_imagenet-pretrained-r50_8xb6-1x1x8-40e_sthv1-rgb.py',
    'recognition/trn/trn_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv1-rgb.py',
    'recognition/tsm/tsm_imagenet-pretrained-mobilenetv2_8xb16-1x1x8-100e_'
    'kinetics400-rgb.py',
    'recognition/tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x16-50e_sthv2-rgb.py',
    'recognition/tsn/tsn_imagenet-pretrained-r50_8xb32_5x1x3-110e_kinetics400-flow.py',
    'recognition/x3d/x3d_s_13x6x1_facebook-kinetics400-rgb.py',
    'recognition_audio/resnet/tsn_r18_8xb320-64x1x1-100e_kinetics400-audio-feature.py',
    'skeleton/posec3d/slowonly_r50_8xb16-u48-240e_gym-keypoint.py',
    'detection/slowfast/slowfast_kinetics400-pretrained-r50_8xb16-4x16x1-20e_'
    'ava21-rgb.py',
    'detection/slowonly/slowonly_kinetics400-pretrained-r50_8xb16-4x16x1-20e_'
    'ava21-rgb.py',
)
OF_IMAGE_LIBRARIES = (
    'recognition/tsm/tsm_imagenet-pretrained-mobileone-s4_8xb16-1x1x16-50e_'
    'kinetics400-rgb.py',
    'recognition/tsn/custom_backbones/tsn_imagenet-pretrained-dense161_8xb32-1x1x3-'
    '100e_kinetics400-rgb.py',
    'recognition/tsn/custom_backbones/tsn_imagenet-pretrained-mobileone-s4_8xb32-1x1x8-'
    '100e_kinetics400-rgb.py',
    'recognition/tsn/custom_backbones/tsn_imagenet-pretrained-rn101-32x4d_8xb32-1x1x3-'
    '100e_kinetics400-rgb.py',
    'recognition/tsn/custom_backbones/tsn_imagenet-pretrained-swin-transformer_8xb32-'
    '1x1x3-100e_kinetics400-rgb.py',
)
START, END = '<!-- make test-configs -->\n', '<!-- end of configs -->\n'
KINDS = ('recognition', 'recognition_audio', 'skeleton', 'detection')
SIZE = 64  # pixels

AS_IS = 'as they are'
WITH_OPTION = 'with the option that the error names'
BACKBONE = 'the backbone alone, since the detector needs mmdet and compiled operators'

# What fails, by the beginning of its name: what the error says, and the reason
EXPECTED = {
    'recognition/tin/': (
        'tin_shift|TINShift',
        'needs the compiled operators of mmcv, which mmcv-lite does not have',
    ),
    'recognition_audio/resnet/tsn_r18': (
        'got a RecognizerAudio',
        'a spectrogram has no frames',
    ),
    'recognition/tsn/custom_backbones/tsn_imagenet-pretrained-rn101-32x4d': (
        'mmcls',
        'names mmcls, which is called mmpretrain now',
    ),
    'recognition/tsn/custom_backbones/tsn_imagenet-pretrained-swin': (
        'expected .* blocks|swin',
        'a transformer, which has no blocks of convolutions',
    ),
    'skeleton/posec3d/slowonly_r50_8xb16-u48-240e_gym-limb': (
        'tuple indices',
        'its train_dataloader is a tuple, with which MMAction2 does not train either',
    ),
}


class Result(NamedTuple):
    """What came of one config."""

    name: str
    outcome: str  # AS_IS, WITH_OPTION or BACKBONE; else the error


def find() -> Dict[str, Path]:
    """Configs whose network has a counterpart, by their path below CONFIGS."""
    found = {}
    for kind in KINDS:
        for path in sorted((CONFIGS / kind).rglob('*.py')):
            cfg = Config.fromfile(path)
            backbone = cfg.get('model', {}).get('backbone')
            if backbone is not None and _counterpart(cfg):
                found[str(path.relative_to(CONFIGS))] = path
    return found


def _counterpart(cfg: Config) -> str:
    backbone = str(cfg.model.backbone.type)
    if backbone.startswith(('torchvision.', 'timm.', 'mmpretrain.', 'mmcls.')):
        return 'AIARecognizer2D'
    name = f'AIA{type_name(cfg.model.backbone)}'
    return name if hasattr(aia_mmaction, name) else ''


def switch_on(cfg: Config) -> None:
    """As the README says: the type, and the frames that training samples."""
    counterpart = _counterpart(cfg)
    owner = cfg.model.backbone
    if counterpart == 'AIARecognizer2D':
        owner = cfg.model
    owner.type = f'aia_mmaction.{counterpart}'
    counts = type_name(cfg.model) == 'Recognizer2D' or counterpart == 'AIAC2D'
    if counts and 'num_segments' not in cfg.model.backbone:
        channels = cfg.model.backbone.get('in_channels', 3)
        (sampled,) = frames_per_clip(cfg.train_dataloader, '', channels)
        owner.num_segments = sampled[1]


def check(path: Path) -> str:
    """Try one config.

    Returns:
        str: ``AS_IS``, ``WITH_OPTION`` or ``BACKBONE``.

    Raises:
        Exception: Whatever fails.
    """
    init_default_scope('mmaction')
    plain_cfg, cfg = Config.fromfile(path), Config.fromfile(path)
    if type_name(cfg.model) == 'FastRCNN':
        _check_backbone(plain_cfg, cfg)
        return BACKBONE
    switch_on(cfg)
    model = _built(cfg)
    phases = [phase for phase in ('train', 'val') if f'{phase}_dataloader' in cfg]
    wrong = wrong_num_segments(model, cfg, [*phases, 'test'])
    if wrong:
        _, _, options = wrong.partition('--cfg-options ')
        named = dict(option.split('=') for option in options.rstrip('.').split())
        for each in (cfg, plain_cfg):
            each.merge_from_dict({key: int(value) for key, value in named.items()})
        model = _built(cfg)
        _raise(wrong_num_segments(model, cfg, [*phases, 'test']))
    # Some configs can only be tested.
    train = _small_inputs(cfg, 'train' if 'train' in phases else 'test', views=1)
    test = _small_inputs(cfg, 'test', views=2)
    for inputs in (train, test):
        _raise(wrong_batch(model, inputs))
    _check_empty(plain_cfg, cfg, train, test)
    _check_step(model, train)
    _predict(model, test)
    return WITH_OPTION if wrong else AS_IS


def _raise(wrong: str) -> None:
    if wrong:
        raise ValueError(wrong)


def _built(cfg: Config, plain: bool = False):
    torch.manual_seed(0)
    return build_untrained(cfg, plain=plain)


def _small_inputs(cfg: Config, loader: str, views: int):
    """A video, of few views and small frames."""
    shape = list(example_inputs(cfg, loader).shape)
    frames = 1
    if len(shape) == 5:  # [1, M, C, H, W] of 2-D networks
        ((_, frames),) = frames_per_clip(find_pipeline(cfg, loader), '', shape[2])
    shape[1] = min(shape[1], views * frames)
    if type_name(cfg.model.backbone) != 'AIAC3D':  # its head is for 112 pixels
        # Heat maps have many frames and need few pixels.
        most = SIZE if shape[2] <= PICTURE_CHANNELS else SIZE // 2
        shape[-2:] = [min(size, most) for size in shape[-2:]]
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _samples(model) -> List[ActionDataSample]:
    label = torch.tensor(1)
    if getattr(model.cls_head, 'multi_class', False):
        label = torch.nn.functional.one_hot(label, model.cls_head.num_classes).float()
    return [ActionDataSample().set_gt_label(label)]


def _seed() -> None:
    """Of the dropout, and of the frames that TRN's head chooses."""
    torch.manual_seed(0)
    np.random.seed(0)


def _loss(model, inputs):
    _seed()
    model.train()
    losses = model.loss(inputs, _samples(model))
    return sum(value for key, value in losses.items() if 'loss' in key)


def _predict(model, inputs):
    _seed()
    with torch.no_grad():
        samples = model.eval().predict(inputs, _samples(model))
    scores = torch.stack([sample.pred_score for sample in samples])
    assert scores.isfinite().all()
    return scores


def _check_empty(plain_cfg: Config, cfg: Config, train, test) -> None:
    """With `plugins=[]` loss and scores are those of the plain network."""
    torch.manual_seed(0)
    forget_pretrained(plain_cfg.model.backbone)
    plain, empty = MODELS.build(plain_cfg.model), _built(cfg, plain=True)
    empty.load_state_dict(plain.state_dict(), strict=True)
    assert not attention_layers(empty)
    assert torch.equal(_predict(plain, test), _predict(empty, test))
    assert torch.equal(_loss(plain, train), _loss(empty, train))


def _check_step(model, inputs) -> None:
    loss = _loss(model, inputs)
    loss.backward()
    assert loss.isfinite()
    for name, layer in attention_layers(model):
        for key, parameter in layer.named_parameters():
            assert parameter.grad is not None, f'{name}.{key}'


def _check_backbone(plain_cfg: Config, cfg: Config) -> None:
    """Of a detector, which takes clips of `[N, C, T, H, W]`."""
    cfg.model.backbone.type = f'aia_mmaction.{_counterpart(cfg)}'
    for each in (plain_cfg, cfg):
        forget_pretrained(each.model.backbone)
    loader = 'train' if 'train_dataloader' in cfg else 'test'
    (sampler,) = [t for t in find_pipeline(cfg, loader) if 'clip_len' in t]
    x = torch.randn(1, 3, sampler['clip_len'], SIZE, SIZE)
    plain = MODELS.build(plain_cfg.model.backbone)
    empty = MODELS.build(dict(cfg.model.backbone, plugins=[]))
    backbone = MODELS.build(cfg.model.backbone)
    for each in (plain, empty, backbone):
        each.train()  # which gives nothing back in MMAction2
    empty.load_state_dict(plain.state_dict(), strict=True)
    for one, other in zip(_maps(plain(x)), _maps(empty(x))):
        assert torch.equal(one, other)
    sum(each.mean() for each in _maps(backbone(x))).backward()
    assert attention_layers(backbone)
    for name, layer in attention_layers(backbone):
        assert all(p.grad is not None for p in layer.parameters()), name


def _maps(output):
    return output if isinstance(output, (list, tuple)) else [output]


def try_one(name: str) -> Result:
    """:func:`check`, with the error in place of an outcome."""
    torch.set_num_threads(1)
    try:
        return Result(name, check(CONFIGS / name))
    except Exception as error:
        return Result(name, f'{type(error).__name__}: {error}')


def expected_failure(name: str) -> tuple:
    """What the error of a config says and why; nothing if it has to work."""
    found = [e for beginning, e in EXPECTED.items() if name.startswith(beginning)]
    return found[0] if found else ()


def surprise(result: Result) -> str:
    """What is not as it is expected; empty if all is."""
    failed = result.outcome not in (AS_IS, WITH_OPTION, BACKBONE)
    expected = expected_failure(result.name)
    if failed and not (expected and re.search(expected[0], result.outcome)):
        return f'{result.name}: {result.outcome}'
    if expected and not failed:
        return f'{result.name} works. Take it out of EXPECTED.'
    return ''


def summary(results: List[Result]) -> str:
    """The lines of the docs."""
    by_outcome: Dict[str, List[str]] = {}
    for name, outcome in results:
        expected = expected_failure(name)
        outcome = f'not: {expected[1]}' if expected else outcome
        by_outcome.setdefault(outcome, []).append(Path(name).stem)
    rows = [
        f'| {outcome} | {len(names)} | {_those(names) * outcome.startswith("not: ")} |'
        for outcome, names in sorted(by_outcome.items())
    ]
    version = f'mmaction2 {mmaction.__version__}'
    head = [f'| {version} | {len(results)} configs | |', '|---|---|---|']
    return '\n'.join([*head, *rows]) + '\n'


def _those(names: List[str]) -> str:
    return ', '.join(f'`{name}`' for name in names)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('names', nargs='*', help='parts of names. Default: all')
    args = parser.parse_args()
    names = [n for n in find() if not args.names or any(a in n for a in args.names)]
    results = []
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        for result in pool.map(try_one, names):
            print(f'{result.name}: {result.outcome.splitlines()[0]}', flush=True)
            results.append(result)
    text = summary(results)
    print(f'\n{text}')
    surprises = list(filter(None, map(surprise, results)))
    before, _, rest = PAGE.read_text(encoding='utf-8').partition(START)
    stated, _, after = rest.partition(END)
    if not args.names and stated != text:
        if os.environ.get('UPDATE_README'):
            PAGE.write_text(f'{before}{START}{text}{END}{after}', encoding='utf-8')
        else:
            surprises.append(
                'docs/backbones.md states other counts. UPDATE_README=1 writes.'
            )
    print('\n'.join(surprises))
    return len(surprises)


if __name__ == '__main__':
    sys.exit(bool(main()))
