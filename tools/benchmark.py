r"""What attention costs: time, memory, compilation, against the plain network.

Each variant is timed in turn, round after round, so that a machine that slows
down slows all of them; the table gives medians and, in brackets, the ratio to
the network of the same config with `plugins=[]`. No speed is printed for a
path whose results were not just compared with the reference on the shapes that
it is timed on.

Examples:
    # networks: inference, training step, bytes kept, peak memory, bytes left
    python tools/benchmark.py network configs/tsm_r50_cinst_sthv1.py
    python tools/benchmark.py network configs/tsn_r50_cinst_sthv1.py \
        configs/tsm_r50_cinst_sthv1_16f.py --impl auto compiled \
        --json cpu.json --plot cpu.png
    # on a GPU, as it is trained
    python tools/benchmark.py network configs/tsm_r50_cinst_sthv1.py \
        --device cuda --batch 16 --amp float16 --channels-last
    # one layer, in the four stages of a ResNet, against the copy bandwidth
    python tools/benchmark.py layer --layers CinST STinC
    # how the ratio scales: one axis at a time
    python tools/benchmark.py scaling configs/tsm_r50_cinst_sthv1.py \
        --batches 1 2 4 --frames 4 8 16 --sizes 112 224
"""

import argparse
import copy
import ctypes
import gc
import json
import os
import sys
import time
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import median

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils.dl_utils import collect_env
from rich import box
from rich.console import Console
from rich.table import Table

from aia_mmaction import __version__
from aia_mmaction.benchmarking.untrained import build_untrained
from aia_mmaction.datasets.example import find_pipeline
from aia_mmaction.layers import build_layer
from aia_mmaction.ops.graph import bytes_saved
from aia_mmaction.ops.parity import deviations
from aia_mmaction.plugins import attention_layers
from aia_mmaction.plugins.slots import PluggedActivation
from aia_mmaction.utils.config import type_name
from aia_mmaction.utils.files import config_file, write_text

IMPLS = ('auto', 'reference', 'fused', 'compiled', 'triton')
DTYPES = dict(float16=torch.float16, bfloat16=torch.bfloat16)
DEFAULT_SIZE = 224  # pixels
# [C, H, W] after norm2 in the four stages of a ResNet-50 at that size
STAGES = [(64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest='what', required=True)

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        '--impl',
        nargs='+',
        choices=IMPLS,
        default=['reference', 'auto'],
        help='paths to compare. Default: reference auto',
    )
    common.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    common.add_argument(
        '--amp', choices=DTYPES, help='run under autocast with this dtype'
    )
    common.add_argument('--channels-last', action='store_true')
    common.add_argument(
        '--repeats', type=int, default=10, help='rounds after the warm-up. Default: 10'
    )
    common.add_argument('--json', type=Path, help='write everything there')
    common.add_argument('--plot', type=Path, help='draw the ratios there')

    network = subparsers.add_parser('network', parents=[common])
    network.add_argument('configs', nargs='+', metavar='CONFIG', type=config_file)
    network.add_argument('--batch', type=int, default=1, help='clips')
    network.add_argument('--size', type=int, default=DEFAULT_SIZE, help='pixels')
    network.add_argument(
        '--compile-model',
        action='store_true',
        help='compile the whole models, the plain one too',
    )
    network.add_argument('--metrics', nargs='+', choices=METRICS, default=list(METRICS))

    layer = subparsers.add_parser('layer', parents=[common])
    layer.add_argument('--layers', nargs='+', default=['CinST', 'STinC'])
    layer.add_argument('--batch', type=int, default=1, help='clips')
    layer.add_argument('--num-segments', type=int, default=8)

    scaling = subparsers.add_parser('scaling', parents=[common])
    scaling.add_argument('configs', nargs='+', metavar='CONFIG', type=config_file)
    scaling.add_argument('--batches', type=int, nargs='+', default=[1, 2, 4])
    scaling.add_argument('--frames', type=int, nargs='+', default=[4, 8, 16])
    scaling.add_argument('--sizes', type=int, nargs='+', default=[112, 224])
    return parser.parse_args()


def keep_freed_memory():
    """Have glibc reuse memory, as other allocators and CUDA's do.

    By default it hands large blocks back to the system, at moments that
    depend on all that was allocated before; to get them anew is up to a sixth
    of a network's time, and differs from run to run.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, 'mallopt'):
        return
    m_trim_threshold, m_mmap_max = -1, -4  # <malloc.h>
    libc.mallopt(m_trim_threshold, -1)
    libc.mallopt(m_mmap_max, 0)


class Setting:
    """Where and in which precision everything runs."""

    def __init__(self, args):
        self.device = torch.device(args.device)
        self.dtype = DTYPES.get(args.amp)
        self.channels_last = args.channels_last
        self.repeats = args.repeats

    def autocast(self):
        return torch.autocast(
            self.device.type, self.dtype, enabled=self.dtype is not None
        )

    def place(self, x):
        if not self.channels_last:
            return x.to(self.device)
        if isinstance(x, torch.Tensor) and x.dim() == 5:
            # [N, M, C, H, W]: the recognizer folds N and M itself
            return (
                x.to(self.device)
                .flatten(0, 1)
                .contiguous(memory_format=torch.channels_last)
                .view(x.shape)
            )
        return x.to(self.device, memory_format=torch.channels_last)

    def now(self):
        if self.device.type == 'cuda':
            torch.cuda.synchronize()
        return time.perf_counter()

    def seconds(self, function):
        start = self.now()
        function()
        return self.now() - start

    def first_calls(self, functions):
        """Seconds of each function when it is new, and may have to compile."""
        return {name: self.seconds(f) for name, f in functions.items()}

    def interleave(self, functions):
        """Median seconds of each function."""
        rounds = [self.first_calls(functions) for _ in range(2 + self.repeats)][2:]
        return {name: median(r[name] for r in rounds) for name in functions}


def is_3d(cfg):
    return type_name(cfg.model) == 'Recognizer3D'


def frames_per_clip(cfg):
    """As the config's own pipeline samples them."""
    sampling = next(
        t
        for t in find_pipeline(cfg, 'train')
        if type_name(t).endswith(('SampleFrames', 'UniformSample'))
    )
    return sampling['clip_len' if is_3d(cfg) else 'num_clips']


def input_shape(cfg, batch, frames, size):
    channels = cfg.model.backbone.get('in_channels', 3)  # more in optical flow
    if is_3d(cfg):
        return batch, 1, channels, frames, size, size  # [N, M, C, T, H, W]
    return batch, frames, channels, size, size  # [N, num_segments, C, H, W]


def build(cfg, impl, setting, frames):
    """A recognizer of the config with one path; None for plain."""
    cfg = copy.deepcopy(cfg)
    if 'num_segments' in cfg.model.backbone:
        cfg.model.backbone.num_segments = frames
    torch.manual_seed(0)
    model = build_untrained(cfg, plain=impl is None)
    for _, layer in attention_layers(model):
        layer.impl = impl
    return setting.place(model)


def verify(name, model, x, setting):
    """Compare the attention layers with the reference on the shapes that they
    see, in the mode that they are in; or end the program.
    """
    seen = {}

    def remember(layer, args):
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


def compare(name, layer, x, activation=None):
    noise = torch.randn_like(x)
    beyond = deviations(layer, noise, torch.randn_like(x), [activation])
    if beyond:
        raise SystemExit(
            f'{name}: no speed is printed. Expected the results of the '
            f'reference, got relative errors {beyond} of '
            f'{type(layer).__name__} on {tuple(x.shape)}, {x.dtype}. Run '
            'tests/ops, and use another impl until it is mended.'
        )


def measure_time(models, x, setting, functions):
    """Seconds of each function, and of its first call."""
    first = setting.first_calls(functions)
    for name, model in models.items():
        verify(name, model, x, setting)
    return setting.interleave(functions), first


def measure_inference(models, x, setting):

    @torch.no_grad()
    def infer(model):
        with setting.autocast():
            model(x, mode='tensor')

    for model in models.values():
        model.eval()
    functions = {n: partial(infer, m) for n, m in models.items()}
    return measure_time(models, x, setting, functions)


def training_step(model, x, setting):
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step():
        with setting.autocast():
            loss = model(x, mode='tensor').float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure_training(models, x, setting):
    for model in models.values():
        model.train()
    functions = {n: training_step(m, x, setting) for n, m in models.items()}
    return measure_time(models, x, setting, functions)


def measure_kept(models, x, setting):
    """Bytes that autograd keeps for the backward pass, without weights."""
    kept = {}
    for name, model in models.items():
        model.train()
        with setting.autocast():
            kept[name] = bytes_saved(model(x, mode='tensor'), model)
    return kept, {}


def allocated_by(function, setting):
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


def measure_peak(models, x, setting):
    """Bytes allocated at the worst moment of a training step, above those
    before it.
    """
    peak = {}
    for name, model in models.items():
        model.train()
        step = training_step(model, x, setting)
        step()
        peak[name] = max(allocated_by(step, setting))
    return peak, {}


def measure_left(models, x, setting):
    """Bytes that the graph still holds when its backward pass is over, in which
    the optimizer then has to work; the loss is still there.
    """
    left = {}
    for name, model in models.items():
        model.train()
        losses = []

        def backward(model=model, losses=losses):
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
    'kept for backward': (measure_kept, 'MB', 1e6),
    'peak memory': (measure_peak, 'MB', 1e6),
    'left after backward': (measure_left, 'MB', 1e6),
}


def measure_network(
    config, impls, metrics, setting, batch, size, frames=None, compile_model=False
):
    """One row for each variant of a config's network."""
    cfg = Config.fromfile(config)
    frames = frames or frames_per_clip(cfg)
    x = setting.place(torch.randn(input_shape(cfg, batch, frames, size)))
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
    rows = [
        dict(
            config=Path(config).stem,
            attention='' if name == 'plain' else attention,
            variant=name,
            input='x'.join(map(str, x.shape)),
        )
        for name in models
    ]
    for metric in metrics:
        print(f'{config}, {tuple(x.shape)}: {metric} ...', file=sys.stderr)
        measure, unit, scale = METRICS[metric]
        values, first = measure(models, x, setting)
        for row, name in zip(rows, models):
            row[f'{metric} ({unit})'] = values[name] / scale
            row[f'{metric} ratio'] = values[name] / values['plain']
            if name in first:
                row[f'{metric} first call (s)'] = first[name]
    return rows


def measure_layers(args, setting):
    """One row for each layer, stage and path, against the copy bandwidth."""
    rows = []
    for name in args.layers:
        for c, h, w in STAGES:
            # [N * T, C, H, W], as in a 2-D network
            shape = args.batch * args.num_segments, c, h, w
            x = setting.place(torch.randn(shape))
            x = x if setting.dtype is None else x.to(setting.dtype)
            layers = {}
            for impl in args.impl:
                layer = build_layer(
                    dict(type=name, num_segments=args.num_segments, impl=impl)
                )
                layers[impl] = layer.to(setting.device)
            rows += measure_layer(name, layers, x, setting)
    return rows


def measure_layer(name, layers, x, setting):
    leaf, grad = x.clone().requires_grad_(), torch.randn_like(x)
    other = torch.empty_like(x)

    @torch.no_grad()
    def infer(layer):
        with setting.autocast():
            layer(x)

    def train(layer):
        with setting.autocast():
            out = layer(leaf)
        out.backward(grad)

    functions = {impl: partial(infer, m) for impl, m in layers.items()}
    for layer in layers.values():
        layer.eval()
    first = setting.first_calls(functions)
    for training in (True, False):
        for impl, layer in layers.items():
            compare(impl, layer.train(training), x)
    copying = partial(other.copy_, x)
    inference = setting.interleave(dict(functions, copy=copying))
    for layer in layers.values():
        layer.train()
    training = setting.interleave(
        {impl: partial(train, m) for impl, m in layers.items()}
    )
    # A copy reads and writes once. The layer cannot do with less than three
    # reads and a write, and one of each less without an inner gate.
    floor = 2 * inference['copy']
    return [
        dict(
            layer=name,
            variant=impl,
            input='x'.join(map(str, x.shape)),
            **{
                'inference (ms)': inference[impl] * 1e3,
                'of the bytes at copy speed': inference[impl] / floor,
                'forward and backward (ms)': training[impl] * 1e3,
                'first call (s)': first[impl],
            },
        )
        for impl in layers
    ] + [
        dict(
            layer=name,
            variant='copy',
            input='x'.join(map(str, x.shape)),
            **{
                'inference (ms)': inference['copy'] * 1e3,
                'copy (GB/s)': 2
                * x.numel()
                * x.element_size()
                / inference['copy']
                / 1e9,
            },
        )
    ]


def measure_scaling(args, setting):
    """Inference on one axis at a time, the others at the config's."""
    rows = []
    for config in args.configs:
        frames = frames_per_clip(Config.fromfile(config))
        points = [(batch, frames, DEFAULT_SIZE) for batch in args.batches]
        points += [(1, n, DEFAULT_SIZE) for n in args.frames if n != frames]
        points += [(1, frames, size) for size in args.sizes if size != DEFAULT_SIZE]
        for batch, n, size in points:
            rows += measure_network(
                config, args.impl, ['inference'], setting, batch, size, n
            )
    return rows


def environment(setting):
    """The machine and the versions, without the paths of collect_env."""
    env = collect_env()
    keys = [k for k in env if k.startswith('GPU ')]
    keys += ['Python', 'PyTorch', 'CUDA available']
    found = {key: str(env[key]) for key in keys if key in env}
    cpu = (
        next(
            (
                line.partition(':')[2].strip()
                for line in Path('/proc/cpuinfo')
                .read_text(encoding='utf-8')
                .splitlines()
                if line.startswith('model name')
            ),
            'unknown',
        )
        if Path('/proc/cpuinfo').exists()
        else 'unknown'
    )
    return dict(
        found,
        cpu=cpu,
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        vectors=torch.backends.cpu.get_cpu_capability(),
        aia_mmaction=__version__,
        device=str(setting.device),
        amp=str(setting.dtype),
        channels_last=setting.channels_last,
        repeats=setting.repeats,
    )


def print_table(rows):
    """Markdown; a metric's ratio stands in brackets behind it."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    ratios = {c for c in columns if c.endswith(' ratio')}
    table = Table(*(c for c in columns if c not in ratios), box=box.MARKDOWN)
    for row in rows:
        cells = []
        for column in columns:
            if column in ratios:
                continue
            value = row.get(column, '')
            cell = f'{value:.2f}' if isinstance(value, float) else value
            ratio = row.get(column.rpartition(' (')[0] + ' ratio')
            cells.append(cell if ratio is None else f'{cell} (×{ratio:.2f})')
        table.add_row(*cells)
    Console(width=1000).print(table, end='')


def plot(rows, path):
    """Bars of the ratios to the plain network."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    metrics = list(
        dict.fromkeys(k for row in rows for k in row if k.endswith(' ratio'))
    )
    if not metrics:
        raise SystemExit(
            '--plot: expected ratios to the plain network, got '
            'layers alone. Use it with network or scaling.'
        )
    groups = list(dict.fromkeys((r['config'], r['input']) for r in rows))
    variants = [v for v in dict.fromkeys(r['variant'] for r in rows) if v != 'plain']
    figure, axes = pyplot.subplots(
        1,
        len(metrics),
        squeeze=False,
        layout='constrained',
        figsize=(4 * len(metrics), 1.5 + 0.3 * len(groups) * len(variants)),
    )
    height = 0.8 / len(variants)
    for axis, metric in zip(axes[0], metrics):
        for i, variant in enumerate(variants):
            values = {
                (r['config'], r['input']): r[metric]
                for r in rows
                if r['variant'] == variant
            }
            bars = axis.barh(
                [n + i * height for n in range(len(groups))],
                [values[group] for group in groups],
                height,
                label=variant,
            )
            axis.bar_label(bars, fmt='×%.2f', padding=2, fontsize=8)
        axis.axvline(1, color='black', linewidth=1)
        axis.set_yticks(
            [n + 0.4 - height / 2 for n in range(len(groups))],
            [f'{c}\n{s}' for c, s in groups]
            if axis is axes[0, 0]
            else [''] * len(groups),
            fontsize=8,
        )
        axis.set_title(metric.replace(' ratio', ', plain = 1'), fontsize=10)
        axis.margins(x=0.15)
        axis.invert_yaxis()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside upper center', ncols=len(labels))
    figure.savefig(path, dpi=120)


def measure(args, setting):
    """Rows of whatever the command line asks for."""
    if args.what == 'layer':
        return measure_layers(args, setting)
    if args.what == 'scaling':
        return measure_scaling(args, setting)
    rows = []
    for config in args.configs:
        rows += measure_network(
            config,
            args.impl,
            args.metrics,
            setting,
            args.batch,
            args.size,
            compile_model=args.compile_model,
        )
    return rows


def main():
    args = parse_args()
    # What is compiled is compiled in this run, and its time is known.
    os.environ.setdefault('TORCHINDUCTOR_FORCE_DISABLE_CACHES', '1')
    keep_freed_memory()
    init_default_scope('mmaction')
    setting = Setting(args)
    try:
        rows = measure(args, setting)
    except ValueError as error:
        sys.exit(f'{Path(__file__).name}: {error}')
    about = environment(setting)
    print(', '.join(f'{key}: {value}' for key, value in about.items()))
    print_table(rows)
    if args.json:
        write_text(
            args.json, json.dumps(dict(environment=about, rows=rows), indent=1) + '\n'
        )
    if args.plot:
        plot(rows, args.plot)


if __name__ == '__main__':
    main()
