"""Draw CinST and STinC for the README, or a frame's way for the architecture.

Examples:
    python tools/diagram.py modules docs/images/cinst_stinc.png
    python tools/diagram.py architecture docs/images/architecture.png
"""

import argparse
import sys
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

from aia_mmaction.utils.files import draft_of

GREY, BLUE, RED, YELLOW = '#e8e8e8', '#cfe2ff', '#ffd9d2', '#fff3c4'
RADIUS = 0.2
SIZES = {
    'C': '1 × T × H × W',
    'T': 'C × 1 × H × W',
    'H': 'C × T × 1 × W',
    'W': 'C × T × H × 1',
}
COLOURS = dict(C=BLUE, T=RED, H=RED, W=RED)


class Canvas:
    """Boxes and arrows on the axes of a figure."""

    def __init__(self, axes, width, height):
        axes.set(xlim=(0, width), ylim=(0, height), aspect='equal')
        axes.set_axis_off()
        self.axes = axes

    def box(self, x, y, text, colour=GREY, width=1.9, height=0.62, size=9):
        self.axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - height / 2),
                width,
                height,
                boxstyle='round,pad=0,rounding_size=0.1',
                facecolor=colour,
                edgecolor='black',
                linewidth=0.8,
            )
        )
        self.text(x, y, text, size)

    def times(self, x, y):
        self.axes.add_patch(
            Circle((x, y), RADIUS, facecolor='white', edgecolor='black')
        )
        self.text(x, y, '×', 11)

    def text(self, x, y, text, size=9, **kwargs):
        kwargs = dict(ha='center', va='center', size=size) | kwargs
        self.axes.text(x, y, text, **kwargs)

    def heading(self, y, text, size):
        self.text(0.1, y, text, size, ha='left', weight='bold')

    def arrow(self, *points):
        """Through points, with the head at the last."""
        *_, before, end = points
        self.axes.plot(*zip(*points[:-1]), color='black', linewidth=0.9)
        self.axes.annotate(
            '',
            xy=end,
            xytext=before,
            arrowprops=dict(
                arrowstyle='-|>',
                color='black',
                linewidth=0.9,
                shrinkA=0,
                shrinkB=0,
                mutation_scale=9,
            ),
        )


def gates(canvas, axes, x, y, start):
    """Gates beside one another's inputs, from ``start``; gives their end."""
    ys = [y + 0.85 * (len(axes) // 2 - i) for i in range(len(axes))]
    fork = start + 0.55
    for axis, gate_y in zip(axes, ys):
        canvas.box(x, gate_y, f'gate {axis}\n{SIZES[axis]}', COLOURS[axis])
        if gate_y == y:
            canvas.arrow((start, y), (x - 0.95, y))
        else:
            canvas.arrow((start, y), (fork, y), (fork, gate_y), (x - 0.95, gate_y))
    if len(axes) == 1:
        return x + 0.95
    mean_x = x + 1.8
    for gate_y in ys:
        if gate_y == y:
            canvas.arrow((x + 0.95, y), (mean_x - 0.42, y))
        else:
            canvas.arrow(
                (x + 0.95, gate_y),
                (mean_x, gate_y),
                (mean_x, y + (0.31 if gate_y > y else -0.31)),
            )
    canvas.box(mean_x, y, 'mean', width=0.84)
    return mean_x + 0.42


def module(canvas, y, name, inner, outer, remark):
    bypass = y + 1.4
    canvas.heading(y + 1.9, name, 13)
    canvas.text(1.2, y + 1.9, remark, 10, ha='left')
    canvas.box(0.75, y, 'x\nC × T × H × W', width=1.3)
    end = gates(canvas, inner, 3.2, y, 1.4)
    refine = end + 0.6
    canvas.arrow((end, y), (refine - RADIUS, y))
    canvas.times(refine, y)
    canvas.text(refine + RADIUS + 0.3, y + 0.17, 'z', 10, style='italic')
    end = gates(canvas, outer, refine + 2.55, y, refine + RADIUS)
    product = end + 0.6
    canvas.arrow((end, y), (product - RADIUS, y))
    canvas.times(product, y)
    canvas.arrow((product + RADIUS, y), (product + 0.8, y))
    canvas.box(product + 1.15, y, 'y', width=0.7)
    # The input goes around to both products.
    canvas.arrow(
        (0.75, y + 0.31), (0.75, bypass), (product, bypass), (product, y + RADIUS)
    )
    canvas.arrow((refine, bypass), (refine, y + RADIUS))
    canvas.text((refine + product) / 2, bypass + 0.17, 'x', 10, style='italic')


def chain(canvas, y, name, steps):
    canvas.heading(y, name, 11)
    x = 1.6
    for i, (text, width) in enumerate(steps):
        if i > 0:
            canvas.arrow((x - 0.35, y), (x, y))
        colour = YELLOW if text == 'CinST or STinC' else GREY
        canvas.box(x + width / 2, y, text, colour, width)
        x += width + 0.35


def modules():
    figure = Figure(figsize=(10.6, 9), layout='constrained')
    canvas = Canvas(figure.subplots(), 11.8, 10)
    module(
        canvas,
        7.8,
        'CinST',
        'C',
        'THW',
        'the channel gate inside: it refines what the gates of T, H and W '
        'are made from',
    )
    module(
        canvas,
        3.7,
        'STinC',
        'THW',
        'C',
        'the gates of T, H and W inside: they refine what the channel gate '
        'is made from',
    )
    chain(
        canvas,
        1.4,
        'a gate of D',
        [
            ('max and mean over D', 2.4),
            ('conv 3 × 3 × 3, 2 → 1', 2.5),
            ('batch norm', 1.5),
            ('sigmoid', 1.3),
        ],
    )
    chain(
        canvas,
        0.4,
        'in a block',
        [
            ('conv 1, norm, ReLU', 2.3),
            ('conv 2, norm', 1.7),
            ('CinST or STinC', 2),
            ('ReLU', 0.9),
            ('conv 3, norm', 1.7),
        ],
    )
    return figure


# What happens, and the file where it is written down
WAY = {
    'data': [
        ('a line of a list', 'datasets/list_file.py'),
        ('a video is opened', 'datasets/video_reader.py'),
        ('labels and frames\nare compared', 'checks/hook.py'),
    ],
    'network': [
        ('a recognizer folds\nclips into the batch', 'MMAction2'),
        ('a block: convolution,\nnorm', 'backbones/registered.py'),
        ('the slot before\nthe activation', 'plugins/slots.py'),
    ],
    'attention': [
        ('which path, and why', 'layers/attention.py\nops/dispatch.py'),
        ('weights are packed,\nclips unfolded', 'ops/functional.py'),
        ('one operator', 'ops/operator.py'),
        ('the gates', 'ops/fused.py\nops/numba/, triton/'),
    ],
    'back': [
        ('its backward pass,\none more operator', 'ops/operator.py'),
        ('the input again, from\nwhat the norm saved', 'ops/recompute.py'),
        ('the gradients', 'ops/fused.py\nops/numba/, triton/'),
        ('the norm, the\nconvolution, ...', 'PyTorch'),
    ],
}


def architecture():
    figure = Figure(figsize=(10.6, 6), layout='constrained')
    canvas = Canvas(figure.subplots(), 11.8, 6.6)
    step, last = 2.6, None
    for row, (name, boxes) in enumerate(WAY.items()):
        y = 5.9 - 1.7 * row
        canvas.heading(y, name, 11)
        for i, (what, file) in enumerate(boxes):
            x = 2.6 + step * i
            colour = YELLOW if 'ops/' in file else GREY
            canvas.box(x, y, what, colour, width=2.2, height=0.7)
            canvas.text(x, y - 0.42, file, 8, va='top', family='monospace')
            if i > 0:
                canvas.arrow((x - step + 1.1, y), (x - 1.1, y))
            elif last is not None:
                # Around the row's end, to the beginning of the next
                turn, between = last[0] + 1.35, y + 0.6
                canvas.arrow(
                    (last[0] + 1.1, last[1]),
                    (turn, last[1]),
                    (turn, between),
                    (x, between),
                    (x, y + 0.35),
                )
            last = x, y
    return figure


DRAWINGS = dict(modules=modules, architecture=architecture)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('what', choices=DRAWINGS)
    parser.add_argument('out', type=Path)
    args = parser.parse_args()
    figure = DRAWINGS[args.what]()
    try:
        with draft_of(args.out) as draft:
            figure.savefig(draft, dpi=110)
    except OSError as error:
        sys.exit(f'{Path(__file__).name}: {error}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
