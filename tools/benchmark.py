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
        configs/tsm_r50_cinst_sthv1_16f.py --impl auto fused \
        --json cpu.json --plot cpu.png
    # on a GPU, as it is trained
    python tools/benchmark.py network configs/tsm_r50_cinst_sthv1.py \
        --device cuda --batch 16 --amp float16 --channels-last
    # one layer, in the four stages of a ResNet, against what no code can beat
    python tools/benchmark.py layer --layers CinST STinC
    # what the docs report: several networks and sizes, or layers and maps
    python tools/benchmark.py grid small
    python tools/benchmark.py grid maps
    # exported files, against the exported network without attention
    python tools/benchmark.py exports configs/tsm_r50_cinst_sthv1.py
    # what a GPU would launch, read and write for a layer, without one
    TRITON_INTERPRET=1 python tools/benchmark.py counts
    # and what its kernels take on GPUs of several kinds, by the compiler
    python tools/benchmark.py resources
    # and what that makes of a network: a prediction from published bandwidths
    python tools/benchmark.py predict configs/tsm_r50_cinst_sthv1.py --batch 16
    # how the ratio scales: one axis at a time
    python tools/benchmark.py scaling configs/tsm_r50_cinst_sthv1.py \
        --batches 1 2 4 --frames 4 8 16 --sizes 112 224
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from aia_mmaction.benchmarking.exports import MEASURED, measure_exports
from aia_mmaction.benchmarking.gpu_counts import count_layers
from aia_mmaction.benchmarking.gpu_resources import (
    cases_of,
    compile_kernels,
    summarise,
)
from aia_mmaction.benchmarking.layers import MAPS, STAGES, measure_layers
from aia_mmaction.benchmarking.networks import (
    DEFAULT_SIZE,
    GRIDS,
    METRICS,
    measure_grid,
    measure_network,
    measure_scaling,
)
from aia_mmaction.benchmarking.prediction import predict
from aia_mmaction.benchmarking.report import environment, plot, print_table
from aia_mmaction.benchmarking.timing import Setting, keep_freed_memory
from aia_mmaction.layers import build_layer
from aia_mmaction.ops import LAYERS
from aia_mmaction.utils.files import config_file, write_text

IMPLS = ('auto', 'reference', 'fused', 'numba', 'triton')
DTYPES = dict(float16=torch.float16, bfloat16=torch.bfloat16)


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest='what', required=True)

    output = argparse.ArgumentParser(add_help=False)
    output.add_argument(
        '--repeats', type=int, default=10, help='rounds after the warm-up. Default: 10'
    )
    output.add_argument('--json', type=Path, help='write everything there')
    output.add_argument('--plot', type=Path, help='draw the ratios there')

    common = argparse.ArgumentParser(add_help=False, parents=[output])
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

    maps = argparse.ArgumentParser(add_help=False)
    maps.add_argument('--num-segments', type=int, default=8)
    maps.add_argument(
        '--maps',
        nargs='+',
        type=channels_and_side,
        default=STAGES,
        metavar='CHANNELSxSIDE',
        help='e.g. 64x56. Default: those of a ResNet-50 at 224 pixels',
    )

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

    grid = subparsers.add_parser('grid', parents=[common])
    grid.add_argument('grid', choices=[*GRIDS, 'maps'])
    grid.add_argument(
        '--metrics',
        nargs='+',
        choices=METRICS,
        default=['inference', 'training step', 'kept for backward'],
    )

    layer = subparsers.add_parser('layer', parents=[common, maps])
    layer.add_argument(
        '--layers', nargs='+', choices=LAYERS, default=['CinST', 'STinC']
    )
    layer.add_argument('--batch', type=int, default=1, help='clips')

    counts = subparsers.add_parser('counts', parents=[output])
    counts.set_defaults(device='cpu', amp=None, channels_last=False)
    counts.add_argument('--layers', nargs='+', choices=LAYERS, default=list(LAYERS))

    resources = subparsers.add_parser('resources', parents=[output, maps])
    resources.set_defaults(device='cpu', amp='float16', channels_last=False)
    resources.add_argument(
        '--layers', nargs='+', choices=LAYERS, default=['CinST', 'STinC']
    )
    resources.add_argument(
        '--architectures', type=int, nargs='+', default=[80, 90, 100]
    )

    prediction = subparsers.add_parser('predict', parents=[output])
    prediction.set_defaults(device='cpu', amp='float16', channels_last=False)
    prediction.add_argument('configs', nargs='+', metavar='CONFIG', type=config_file)
    prediction.add_argument('--batch', type=int, default=16, help='clips')
    prediction.add_argument('--size', type=int, default=DEFAULT_SIZE, help='pixels')

    exports = subparsers.add_parser('exports', parents=[output])
    exports.set_defaults(device='cpu', amp=None, channels_last=False)
    exports.add_argument('configs', nargs='+', metavar='CONFIG', type=config_file)
    exports.add_argument(
        '--formats', nargs='+', choices=MEASURED, default=['pt2', 'ts', 'onnx']
    )
    exports.add_argument('--batch', type=int, default=1, help='clips')
    exports.add_argument('--size', type=int, default=DEFAULT_SIZE, help='pixels')

    scaling = subparsers.add_parser('scaling', parents=[common])
    scaling.add_argument('configs', nargs='+', metavar='CONFIG', type=config_file)
    scaling.add_argument('--batches', type=int, nargs='+', default=[1, 2, 4])
    scaling.add_argument('--frames', type=int, nargs='+', default=[4, 8, 16])
    scaling.add_argument('--sizes', type=int, nargs='+', default=[112, 224])
    return parser.parse_args()


def channels_and_side(text):
    channels, _, side = text.partition('x')
    return int(channels), int(side)


def new_layer(name, num_segments, impl):
    return build_layer(dict(type=name, num_segments=num_segments, impl=impl))


def measure(args, setting):
    """Rows of whatever the command line asks for."""
    if args.what == 'counts':
        return count_layers(args.layers)
    if args.what == 'resources':
        cases = cases_of(args.layers, args.maps, args.num_segments, args.architectures)
        return summarise(compile_kernels(cases))
    if args.what == 'layer':
        maps = [(args.batch, *of_map) for of_map in args.maps]
        return measure_layers(
            args.layers, args.impl, setting, args.num_segments, maps, new_layer
        )
    if args.what == 'grid' and args.grid == 'maps':
        layers = ['CinST', 'STinC']
        return measure_layers(layers, args.impl, setting, 8, MAPS, new_layer)
    if args.what == 'grid':
        configs = Path(__file__).resolve().parent.parent / 'configs'
        return measure_grid(args.grid, configs, args.impl, args.metrics, setting)
    rows = []
    for config in args.configs:
        if args.what == 'exports':
            rows += measure_exports(
                Config.fromfile(config),
                Path(config).stem,
                args.formats,
                setting,
                args.batch,
                args.size,
            )
        elif args.what == 'predict':
            rows += predict(
                Config.fromfile(config), Path(config).stem, args.batch, args.size
            )
        elif args.what == 'scaling':
            rows += measure_scaling(
                config, args.impl, setting, args.batches, args.frames, args.sizes
            )
        else:
            rows += measure_network(
                Config.fromfile(config),
                Path(config).stem,
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
    setting = Setting(
        torch.device(args.device),
        DTYPES.get(args.amp),
        args.channels_last,
        args.repeats,
    )
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
        try:
            plot(rows, args.plot)
        except ValueError as error:
            sys.exit(f'{Path(__file__).name}: {error}')


if __name__ == '__main__':
    main()
