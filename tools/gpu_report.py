r"""Test and measure everything on a GPU, in one command.

The steps: the tests of the layers; a layer against the bandwidth of a copy in the
same run; networks in mixed precision, in both layouts, compiled and not; SyncBN
over two processes, where there are two GPUs. The step `layers` needs PyTorch and
Triton alone, the others MMAction2, too. Written are a JSON file and a plot, named
after the GPU; printed are the rows for docs/speed.md. A step that fails is named in
both, and the others go on.

Examples:
    python tools/gpu_report.py
    python tools/gpu_report.py --steps layers --out report --repeats 20
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch

REPO = Path(__file__).resolve().parent.parent
HAS_OPENMMLAB = all(map(find_spec, ('mmaction', 'mmengine', 'mmcv')))
if not HAS_OPENMMLAB:
    # A package whose __init__, which imports OpenMMLab, does not run
    package = ModuleType('aia_mmaction')
    package.__path__ = [str(REPO / 'aia_mmaction')]
    sys.modules['aia_mmaction'] = package

from aia_mmaction.benchmarking.bare_layer import BareLayer
from aia_mmaction.benchmarking.layers import STAGES, measure_layers
from aia_mmaction.benchmarking.timing import Setting
from aia_mmaction.ops import LAYERS
from aia_mmaction.utils.files import draft_of, write_text

CONFIGS = ['configs/tsm_r50_cinst_sthv1.py', 'configs/tsm_r50_stinc_sthv1.py']
NUM_SEGMENTS = 8


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--steps', nargs='+', choices=STEPS, default=list(STEPS))
    parser.add_argument('--out', type=Path, default=REPO / 'docs' / 'benchmarks')
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--batch', type=int, default=16, help='clips')
    parser.add_argument('--size', type=int, default=224, help='pixels')
    parser.add_argument('--repeats', type=int, default=10)
    layouts = 'NCHW', 'channels_last'
    parser.add_argument('--layouts', nargs='+', choices=layouts, default=layouts)
    parser.add_argument(
        '--compile', nargs='+', choices=('off', 'on'), default=['off', 'on']
    )
    parser.add_argument('--configs', nargs='+', default=CONFIGS)
    parser.add_argument(
        '--layers', nargs='+', choices=LAYERS, default=['CinST', 'STinC']
    )
    return parser.parse_args()


class NotRun(Exception):
    """Why a step cannot run here."""


def run_tests(args):
    need_openmmlab()
    command = '-m', 'pytest', '-q', 'tests/ops', 'tests/layers'
    printed, code = run(*command)
    summary = [line for line in printed.splitlines() if ' passed' in line]
    if code or not summary:
        raise RuntimeError(printed[-2000:])
    return [dict(tests=summary[-1])]


def run_layers(args):
    on_cuda = args.device.startswith('cuda')
    rows = []
    for layout in args.layouts:
        setting = Setting(
            torch.device(args.device),
            torch.float16 if on_cuda else None,
            layout == 'channels_last',
            args.repeats,
        )
        found = measure_layers(
            args.layers,
            ['reference', 'fused', 'triton' if on_cuda else 'auto'],
            setting,
            NUM_SEGMENTS,
            [(args.batch, c, max(1, side * args.size // 224)) for c, side in STAGES],
            BareLayer,
        )
        rows += [dict(row, layout=layout) for row in found]
    return rows


def run_networks(args):
    need_openmmlab()
    amp = ['--amp', 'float16'] if args.device.startswith('cuda') else []
    rows = []
    for layout in args.layouts:
        for compiled in args.compile:
            options = [
                *(['--channels-last'] if layout == 'channels_last' else []),
                *(['--compile-model'] if compiled == 'on' else []),
                *amp,
            ]
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / 'network.json'
                printed, code = run(
                    'tools/benchmark.py',
                    'network',
                    *args.configs,
                    *options,
                    *('--impl', 'auto', '--metrics', 'inference', 'training step'),
                    *('--device', args.device, '--batch', args.batch),
                    *('--size', args.size, '--repeats', args.repeats),
                    *('--json', path),
                )
                if code:
                    raise RuntimeError(f'{options}: {printed[-2000:]}')
                found = json.loads(path.read_text())['rows']
                rows += [dict(row, layout=layout, compiled=compiled) for row in found]
    return rows


def run_sync(args):
    on_cuda = args.device.startswith('cuda')
    if on_cuda and torch.cuda.device_count() < 2:
        raise NotRun(f'it needs two GPUs, got {torch.cuda.device_count()}')
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(one_of_two, (args.device, f'{folder}/store'), 2)
    return [dict(sync='two processes give what one with all clips gives')]


def one_of_two(rank, device, store):
    """A process of :func:`run_sync`."""
    distributed = torch.distributed
    on_cuda = device.startswith('cuda')
    if on_cuda:
        torch.cuda.set_device(rank)
    distributed.init_process_group(
        'nccl' if on_cuda else 'gloo',
        store=distributed.FileStore(store, 2),
        rank=rank,
        world_size=2,
    )
    torch.manual_seed(0)
    clips = torch.randn(4 * NUM_SEGMENTS, 16, 14, 14).to(device)
    alone, shared = (
        BareLayer('CinST', NUM_SEGMENTS, 'auto', norm).to(device)
        for norm in (torch.nn.BatchNorm3d, torch.nn.SyncBatchNorm)
    )
    shared.load_state_dict(alone.state_dict())
    half = slice(2 * NUM_SEGMENTS * rank, 2 * NUM_SEGMENTS * (rank + 1))
    expected = alone(clips)
    expected.square().sum().backward()
    got = shared(clips[half])
    got.square().sum().backward()
    torch.testing.assert_close(got, expected[half], rtol=1e-3, atol=1e-4)
    for one, many in zip(alone.parameters(), shared.parameters()):
        distributed.all_reduce(many.grad)
        torch.testing.assert_close(many.grad, one.grad, rtol=1e-2, atol=1e-2)
    distributed.destroy_process_group()


STEPS = dict(tests=run_tests, layers=run_layers, networks=run_networks, sync=run_sync)


def need_openmmlab():
    if not HAS_OPENMMLAB:
        raise NotRun('it needs MMAction2, MMEngine and MMCV')


def run(*arguments):
    """Run Python from the repository; what it printed, and how it ended."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout, done.returncode


def environment(device):
    card = torch.cuda.get_device_name() if device.startswith('cuda') else 'no GPU'
    return dict(
        gpu=card,
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        triton=version('triton') if find_spec('triton') else None,
    )


def markdown(report):
    """The rows for docs/speed.md."""
    lines = []
    for row in report['layers']['rows']:
        if 'of the inference floor' in row:
            floors = row['of the inference floor'], row['of the training floor']
            cells = row['layer'], row['input'], row['layout'], row['variant']
            lines.append([*cells, *(f'{floor:.2f}' for floor in floors)])
    for row in report['networks']['rows']:
        if row['variant'] != 'plain':
            ratios = row['inference ratio'], row['training step ratio']
            how = f'{row["layout"]}, compile {row["compiled"]}'
            cells = f'`{row["config"]}`', row['input'], how, row['variant']
            lines.append([*cells, *(f'×{ratio:.2f}' for ratio in ratios)])
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def plot(report, path):
    """Layers in multiples of their floor, networks of the plain one."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    rows = [line.strip('| ').split(' | ') for line in markdown(report).splitlines()]
    figure, axes = pyplot.subplots(
        1, 2, figsize=(12, 1 + 0.25 * len(rows)), layout='constrained', sharey=True
    )
    for i, (axis, title) in enumerate(zip(axes, ('inference', 'training step'))):
        values = [float(row[4 + i].strip('×')) for row in rows]
        bars = axis.barh([', '.join(row[:4]) for row in rows], values)
        axis.bar_label(bars, fmt='%.2f', padding=2, fontsize=8)
        axis.axvline(1, color='black', linewidth=1)
        axis.set_title(f'{title}: floor, or plain network, = 1', fontsize=10)
        axis.invert_yaxis()
    with draft_of(path) as draft:
        figure.savefig(draft, dpi=100)


def main():
    args = parse_args()
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        sys.exit(f'{Path(__file__).name}: expected a GPU, got none.')
    report = dict(environment=environment(args.device), command=sys.argv[1:])
    for name, step in STEPS.items():
        print(f'{name} ...', flush=True)
        report[name] = dict(rows=[], result='not asked for')
        if name not in args.steps:
            continue
        try:
            report[name] = dict(rows=step(args), result='done')
        except NotRun as reason:
            report[name]['result'] = f'not run: {reason}'
        except Exception as error:
            report[name]['result'] = f'failed: {type(error).__name__}: {error}'
        print(f'{name}: {report[name]["result"]}', flush=True)
    card = re.sub(r'\W+', '_', report['environment']['gpu']).lower()
    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / f'gpu_{card}.json', json.dumps(report, indent=1) + '\n')
    rows = markdown(report)
    if rows:
        print(rows)
        if find_spec('matplotlib'):
            plot(report, args.out / f'gpu_{card}.png')
    print(f'Wrote {args.out / f"gpu_{card}.json"}')
    if any(report[name]['result'].startswith('failed') for name in STEPS):
        sys.exit(1)


if __name__ == '__main__':
    main()
