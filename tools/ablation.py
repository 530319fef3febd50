"""The paper's ablation of its modules, on the motion pairs.

Trains TSN-R18 plain and with each chosen module by `mim train`, tests it by
`mim test`, and writes report.md with a table: top-1, pair accuracy (the motion
is right, its direction ignored), parameters, multiply-adds and time per clip.
What an earlier run finished is not done again; an interrupted training
resumes.

Examples:
    python tools/ablation.py                            # all ten modules
    python tools/ablation.py --modules C ST CinST STinC --seeds 0 1 2
"""

import time
from pathlib import Path
from statistics import median

import torch
from mmaction.registry import MODELS
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config
from mmengine.registry import init_default_scope

from aia_mmaction.benchmarking.motion_pairs import (
    accuracies,
    parser,
    percent,
    prepare,
    table,
    train_and_test,
    write_report,
)
from aia_mmaction.plugins import PAPER_MODULES

REPO = Path(__file__).resolve().parent.parent
CONFIG = REPO / 'configs' / 'tsn_r18_motion-pairs.py'
PLAIN = 'plain'


def parse_args():
    arguments = parser(__doc__, 'work_dirs/ablation')
    arguments.add_argument(
        '--modules',
        nargs='+',
        choices=PAPER_MODULES,
        default=list(PAPER_MODULES),
        metavar='NAME',
        help='out of %(choices)s; default: all. The plain network is always among them',
    )
    return arguments.parse_args()


def options_for(module):
    return [] if module == PLAIN else [f'model.backbone.plugins={module}']


def build(module):
    cfg = Config.fromfile(CONFIG)
    if module != PLAIN:
        cfg.model.backbone.plugins = module
    model = MODELS.build(cfg.model)
    model.eval()
    return model


def complexity(model, clip):
    """Parameters, and multiply-adds as MMEngine counts them."""
    with torch.no_grad():
        # [num_segments, C, H, W] -> [1, num_segments, C, H, W]
        info = get_model_complexity_info(
            model, inputs=(clip[None],), show_table=False, show_arch=False
        )
    return info['params'], info['flops']


@torch.no_grad()
def times(models, clip, rounds=30):
    """Median seconds per clip of each model, measured in turns."""
    measured = {name: [] for name in models}
    for i in range(rounds + 3):
        for name, model in models.items():
            start = time.perf_counter()
            model(clip[None], mode='tensor')
            if i >= 3:  # warm
                measured[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in measured.items()}


def main():
    args = parse_args()
    changed = [o for o in args.cfg_options if 'model' in o or 'pipeline' in o]
    if changed:
        raise SystemExit(
            'ablation: expected --cfg-options for the training alone, got '
            f'{", ".join(changed)}. Parameters, multiply-adds and time are '
            'those of the config as it is; change it in a copy.'
        )
    started = time.time()
    prepare(args, REPO / 'tools/data/make_motion_pairs.py')
    modules = [PLAIN, *args.modules]
    runs = {}
    for module in modules:
        runs[module] = [
            accuracies(
                *train_and_test(
                    CONFIG,
                    args.work_dir / module / f'seed{seed}',
                    seed,
                    [*args.cfg_options, *options_for(module)],
                )
            )
            for seed in args.seeds
        ]

    init_default_scope('mmaction')
    clip = torch.randn(8, 3, 48, 48)  # as the config's pipeline makes it
    models = {module: build(module) for module in modules}
    seconds = times(models, clip)
    rows = []
    for module, model in models.items():
        params, flops = complexity(model, clip)
        if module == PLAIN:
            plain_params, plain_flops = params, flops
        rows.append(
            (
                module,
                percent(runs[module], 'top-1'),
                percent(runs[module], 'pair accuracy'),
                f'{params:,} (+{params - plain_params:,})',
                f'{flops / 1e6:,.0f} M (+{100 * (flops / plain_flops - 1):.2f} %)',
                f'{1000 * seconds[module]:.1f} ms '
                f'(x{seconds[module] / seconds[PLAIN]:.2f})',
            )
        )
    results = table(
        (
            'module',
            'top-1 (%)',
            'pair accuracy (%)',
            'parameters',
            'multiply-adds',
            'time per clip',
        ),
        rows,
    )
    print(f'\n{results}')
    write_report(
        args.work_dir / 'report.md',
        [
            '# The modules of the paper on the motion pairs',
            'TSN-R18, clips of 8 x 48 x 48. Time is the median forward pass of '
            'one clip on the CPU, without reading the video, measured in turns. '
            'Multiply-adds are what MMEngine counts: convolutions, batch norms '
            'and linear layers.',
            results,
        ],
        args,
        started,
    )


if __name__ == '__main__':
    main()
