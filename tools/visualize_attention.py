r"""Show what the attention of a network opens and shuts in a video.

For each stage the attention of its last block is shown: the C gate over the
frames, and the gates of T, H and W as one map. Colours go from the smallest
value in the clip (blue) to the largest (red); both are written beside them.
The frames are those that the network is given by the config's test pipeline,
which has to read pictures; of several crops or clips, that in the middle.

In --out-dir come, under the video's name, a contact sheet (.png) and the same
as a moving picture (.gif, .mp4). With --plain also a sheet of the Grad-CAM of
a network without attention and of this one (_plain_and_aia.png).

Examples:
    python tools/visualize_attention.py configs/tsm_r50_cinst_sthv2.py \
        best.pth data/sthv2/videos/1.webm --labels data/sthv2/labels.txt
    python tools/visualize_attention.py configs/tsm_r50_cinst_sthv1.py \
        best.pth data/sthv1/rawframes/1 --stages 2 3 --out-dir pictures
    python tools/visualize_attention.py \
        configs/tsn_r18_cinst_motion-pairs.py aia.pth clip.avi \
        --plain configs/tsn_r18_motion-pairs.py plain.pth
"""

import argparse
import sys
from pathlib import Path

import torch
from mmengine.config import DictAction
from mmengine.fileio import list_from_file

from aia_mmaction.utils.files import as_command
from aia_mmaction.visualization import (
    Panel,
    contact_sheet,
    step_images,
    write_gif,
    write_mp4,
    write_png,
)
from aia_mmaction.visualization.gates import COMBINATIONS
from aia_mmaction.visualization.video import InputError, Network, gate_panels


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument(
        'video',
        type=Path,
        help='a video, or a folder of frames where the config reads frames',
    )
    parser.add_argument(
        '--stages',
        nargs='+',
        metavar='STAGE',
        help="'1' to '4', 'slow 4' or 'fast 4' of a SlowFast, "
        "'neck'. Default: all that have attention",
    )
    parser.add_argument(
        '--combine',
        choices=COMBINATIONS,
        default='product',
        help='the gates of T, H and W. Their product is large '
        'where all of them are open; their mean is what the '
        'layer multiplies by. Default: product',
    )
    parser.add_argument('--labels', type=Path, help="the classes' names, one per line")
    parser.add_argument(
        '--plain',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a network to compare with by Grad-CAM',
    )
    parser.add_argument(
        '--target-layer',
        help="of Grad-CAM, as MMAction2's vis_cam takes it. "
        "Default: the last norm of the backbone's last block",
    )
    parser.add_argument('--out-dir', type=Path, default='attention')
    parser.add_argument(
        '--fps', type=float, default=4, help='of the moving pictures. Default: 4'
    )
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args()


def draw(args):
    labels = list_from_file(args.labels, encoding='utf-8-sig') if args.labels else None
    where = args.video, args.device, args.cfg_options
    network = Network.load(args.config, args.checkpoint, *where)
    frames, rows = gate_panels(network, args.stages, args.combine)
    title = f'{args.video.name}: {network.prediction(labels)}'
    print(title)

    args.out_dir.mkdir(parents=True, exist_ok=True)
    name = args.video.name if args.video.is_dir() else args.video.stem
    sheet, gif, mp4, compared = (
        args.out_dir / f'{name}{end}'
        for end in ('.png', '.gif', '.mp4', '_plain_and_aia.png')
    )
    written = [sheet, gif, mp4]
    input_panel = Panel('input', frames)
    panels = [panel for row in rows for panel in row]
    write_png(sheet, contact_sheet([input_panel, *panels], title))
    images = list(step_images([[input_panel, *row] for row in rows], title))
    write_gif(gif, images, args.fps)
    write_mp4(mp4, images, args.fps)

    target = args.target_layer or network.target_layer()
    if args.plain:
        plain = Network.load(*args.plain, *where)
        plain.predict()
        title = '\n'.join(
            [
                f'{args.video.name}, Grad-CAM of {target}',
                f'plain: {plain.prediction(labels)}',
                f'AIA: {network.prediction(labels)}',
            ]
        )
        written.append(compared)
        panels = [
            input_panel,
            Panel('plain', plain.grad_cam(target)),
            Panel('AIA', network.grad_cam(target)),
        ]
        write_png(compared, contact_sheet(panels, title))
    print('wrote', *written)
    use_frames = ['--use-frames'] if args.video.is_dir() else []
    vis_cam = as_command(
        *('mim', 'run', 'mmaction', 'vis_cam'),
        *(args.config, args.checkpoint, args.video, *use_frames),
        *('--target-layer-name', target, '--out-filename', 'cam.gif'),
    )
    print(f"Grad-CAM by MMAction2's own tool: {vis_cam}")


def main():
    try:
        draw(parse_args())
    except (InputError, OSError, RuntimeError) as error:
        sys.exit(f'{Path(__file__).name}: {error}')


if __name__ == '__main__':
    main()
