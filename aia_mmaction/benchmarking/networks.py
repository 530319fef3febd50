"""What attention costs a network: time and memory, against the plain one.

Variants are timed in turns, so that a machine that slows down slows all of
them.
"""

import copy
import gc
import sys
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, cast

import torch
from mmengine.config import Config
from torch import Tensor, nn

from aia_mmaction.datasets.example import find_pipeline
from aia_mmaction.ops.graph import bytes_saved
from aia_mmaction.plugins import attention_layers
from aia_mmaction.plugins.slots import PluggedActivation
from aia_mmaction.utils.config import type_name

from .timing import Row, Setting
from .untrained import build_untrained
from .verification import compare

DEFAULT_SIZE = 224  # pixels

Models = Dict[str, nn.Module]
# What was measured of each, and the seconds of the first calls, if they were
Measured = Tuple[Dict[str, float], Dict[str, float]]


def is_3d(cfg: Config) -> bool:
    """Whether clips come as one axis of their own."""
    return type_name(cfg.model) == 'Recognizer3D'


def frames_per_clip(cfg: Config) -> int:
    """As the config's own pipeline samples them."""
    sampling = next(
        t
        for t in find_pipeline(cfg, 'train')
        if type_name(t).endswith(('SampleFrames', 'UniformSample'))
    )
    frames: int = sampling['clip_len' if is_3d(cfg) else 'num_clips']
    return frames


def input_shape(cfg: Config, batch: int, frames: int, size: int) -> Tuple[int, ...]:
    """Of what a recognizer is given."""
    channels = cfg.model.backbone.get('in_channels', 3)  # more in optical flow
    if is_3d(cfg):
        return batch, 1, channels, frames, size, size  # [N, M, C, T, H, W]
    return batch, frames, channels, size, size  # [N, num_segments, C, H, W]


def build(cfg: Config, impl: Optional[str], setting: Setting, frames: int) -> nn.Module:
    """A recognizer of the config with one path; None for plain."""
    cfg = copy.deepcopy(cfg)
    if 'num_segments' in cfg.model.backbone:
        cfg.model.backbone.num_segments = frames
    torch.manual_seed(0)
    model = build_untrained(cfg, plain=impl is None)
    for _, layer in attention_layers(model):
        layer.impl = impl  # type: ignore[assignment]
    return cast(nn.Module, setting.prepare(model))


def verify(name: str, model: nn.Module, x: Tensor, setting: Setting) -> None:
    """Compare the attention layers with the reference on the shapes that they
    see, in the mode that they are in.

    Raises:
        WrongResults: If they differ.
    """
    seen: Dict[Any, Tuple[nn.Module, Tensor]] = {}

    def remember(layer: nn.Module, args: Tuple[Any, ...]) -> None:
        key = type(layer), args[0].shape, args[0].stride()
        seen.setdefault(key, (layer, args[0].detach()))

    layers = [layer for _, layer in attention_layers(model)]
    activations = {
        plugged.after_norm[-1]: plugged.activation
        for plugged in model.modules()
        if isinstance(plugged, PluggedActivation) and plugged.after_norm
    }
    handles = [layer.register_forward_pre_hook(remember) for layer in layers]
    with torch.no_grad(), setting.autocast():
        model(x, mode='tensor')
    for handle in handles:
        handle.remove()
    for layer, features in seen.values():
        compare(name, layer, features, activations.get(layer))


def _time(
    models: Models,
    x: Tensor,
    setting: Setting,
    functions: Mapping[str, Callable[[], Any]],
) -> Measured:
    first = setting.first_calls(functions)
    for name, model in models.items():
        verify(name, model, x, setting)
    return setting.interleave(functions), first


def measure_inference(models: Models, x: Tensor, setting: Setting) -> Measured:
    """Seconds of a forward pass without gradients, in evaluation mode."""

    @torch.no_grad()
    def infer(model: nn.Module) -> None:
        with setting.autocast():
            model(x, mode='tensor')

    for model in models.values():
        model.eval()
    functions = {n: partial(infer, m) for n, m in models.items()}
    return _time(models, x, setting, functions)


def training_step(model: nn.Module, x: Tensor, setting: Setting) -> Callable[[], None]:
    """A step of SGD, to be called again and again."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        with setting.autocast():
            loss = model(x, mode='tensor').float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure_training(models: Models, x: Tensor, setting: Setting) -> Measured:
    """Seconds of a training step."""
    for model in models.values():
        model.train()
    functions = {n: training_step(m, x, setting) for n, m in models.items()}
    return _time(models, x, setting, functions)


def measure_saved(models: Models, x: Tensor, setting: Setting) -> Measured:
    """Bytes that autograd saves for the backward pass, without weights."""
    saved: Dict[str, float] = {}
    for name, model in models.items():
        model.train()
        with setting.autocast():
            saved[name] = bytes_saved(model(x, mode='tensor'), model)
    return saved, {}


def allocated_by(function: Callable[[], Any], setting: Setting) -> List[int]:
    """Bytes allocated since the call began, after each allocation and release."""
    gc.collect()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        function()
    events = [
        e
        for e in profile.profiler.kineto_results.events()
        if e.name() == '[memory]'
        and (e.device_type() != torch.autograd.DeviceType.CPU)
        == (setting.device.type == 'cuda')
    ]
    return list(
        accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
    )


def measure_peak(models: Models, x: Tensor, setting: Setting) -> Measured:
    """Bytes allocated at the worst moment of a training step, above those
    before it.
    """
    peak: Dict[str, float] = {}
    for name, model in models.items():
        model.train()
        step = training_step(model, x, setting)
        step()
        peak[name] = max(allocated_by(step, setting))
    return peak, {}


def measure_left(models: Models, x: Tensor, setting: Setting) -> Measured:
    """Bytes that the graph still holds when its backward pass is over, in which
    the optimizer then has to work; the loss is still there.
    """
    left: Dict[str, float] = {}
    for name, model in models.items():
        model.train()
        losses: List[Tensor] = []

        def backward(model: nn.Module = model, losses: List[Tensor] = losses) -> None:
            with setting.autocast():
                losses.append(model(x, mode='tensor').float().square().mean())
            losses[0].backward()

        model.zero_grad()
        allocated = allocated_by(backward, setting)[-1]
        # Some are parts of one allocation.
        gradients = {
            p.grad.untyped_storage().data_ptr(): p.grad.untyped_storage().nbytes()
            for p in model.parameters()
            if p.grad is not None
        }
        left[name] = allocated - sum(gradients.values())
        model.zero_grad()
    return left, {}


# name: (how to measure it, unit, units in what is measured)
METRICS = {
    'inference': (measure_inference, 'ms', 1e-3),
    'training step': (measure_training, 'ms', 1e-3),
    'kept for backward': (measure_saved, 'MB', 1e6),
    'peak memory': (measure_peak, 'MB', 1e6),
    'left after backward': (measure_left, 'MB', 1e6),
}


def measure_network(
    cfg: Config,
    name: str,
    impls: Sequence[str],
    metrics: Sequence[str],
    setting: Setting,
    batch: int,
    size: int,
    frames: Optional[int] = None,
    compile_model: bool = False,
) -> List[Row]:
    """One row for each variant of a config's network.

    Args:
        cfg (Config): The config.
        name (str): What the table calls it.
        impls (Sequence[str]): Paths to compare with the plain network.
        metrics (Sequence[str]): Keys of :data:`METRICS`.
        setting (Setting): Where and how.
        batch (int): Clips.
        size (int): Side of the frames in pixels.
        frames (int, optional): Per clip; the config's own by default.
        compile_model (bool): Whether all networks are compiled as a whole.

    Raises:
        ValueError: If the config's network has no attention.
        WrongResults: If a path does not compute what the reference does.
    """
    frames = frames or frames_per_clip(cfg)
    x = setting.prepare(torch.randn(input_shape(cfg, batch, frames, size)))
    models = {
        impl or 'plain': build(cfg, impl, setting, frames) for impl in [None, *impls]
    }
    attention = ', '.join(
        sorted(
            {
                type(layer).__name__
                for m in models.values()
                for _, layer in attention_layers(m)
            }
        )
    )
    if compile_model:
        for model in models.values():
            model.compile()
    rows: List[Row] = [
        dict(
            config=name,
            attention='' if variant == 'plain' else attention,
            variant=variant,
            input='x'.join(map(str, x.shape)),
        )
        for variant in models
    ]
    for metric in metrics:
        print(f'{name}, {tuple(x.shape)}: {metric} ...', file=sys.stderr)
        measure, unit, scale = METRICS[metric]
        values, first = measure(models, x, setting)
        for row, variant in zip(rows, models):
            row[f'{metric} ({unit})'] = values[variant] / scale
            row[f'{metric} ratio'] = values[variant] / values['plain']
            if variant in first:
                row[f'{metric} first call (s)'] = first[variant]
    return rows


def measure_scaling(
    config: str,
    impls: Sequence[str],
    setting: Setting,
    batches: Sequence[int],
    frames: Sequence[int],
    sizes: Sequence[int],
) -> List[Row]:
    """Inference on one axis at a time, the others at the config's."""
    cfg, name = Config.fromfile(config), Path(config).stem
    own = frames_per_clip(cfg)
    points = [(batch, own, DEFAULT_SIZE) for batch in batches]
    points += [(1, n, DEFAULT_SIZE) for n in frames if n != own]
    points += [(1, own, size) for size in sizes if size != DEFAULT_SIZE]
    rows = []
    for batch, n, size in points:
        rows += measure_network(
            cfg, name, impls, ['inference'], setting, batch, size, n
        )
    return rows


# name: (config or the backbone that it gets, clips, pixels). What is large costs
# by its bytes, what is small by its calls, and MobileNetV2 is cheap itself.
GRIDS = {
    'large': [
        ('tsn_r50_cinst_sthv1', 1, 224),
        ('tsn_r50_stinc_sthv1', 1, 224),
        ('tsm_r50_cinst_sthv1', 1, 224),
        ('tsm_r50_stinc_sthv1', 1, 224),
        ('tsm_r50_cinst_sthv1', 1, 112),
        ('r2plus1d_r34_cinst_kinetics400', 1, 112),
    ],
    'small': [
        ('tsn_mobilenetv2_cinst', 8, 112),
        ('tsn_r18_cinst_motion-pairs', 8, 112),
        ('tsn_r18_cinst_motion-pairs', 16, 48),
        ('tsn_r18_cinst_motion-pairs', 1, 48),
    ],
}


def measure_grid(
    grid: str,
    configs: Path,
    impls: Sequence[str],
    metrics: Sequence[str],
    setting: Setting,
) -> List[Row]:
    """The networks and sizes of :data:`GRIDS`.

    Args:
        grid (str): A key of it.
        configs (Path): The folder of the configs.
        impls (Sequence[str]), metrics (Sequence[str]), setting (Setting): As in
            :func:`measure_network`.
    """
    rows = []
    for name, batch, size in GRIDS[grid]:
        if name == 'tsn_mobilenetv2_cinst':
            cfg = Config.fromfile(configs / 'tsn_r18_cinst_motion-pairs.py')
            cfg.model.backbone = dict(
                type='AIAMobileNetV2', plugins='CinST', num_segments=8
            )
            cfg.model.cls_head.in_channels = 1280
        else:
            cfg = Config.fromfile(configs / f'{name}.py')
        rows += measure_network(cfg, name, impls, metrics, setting, batch, size)
    return rows
