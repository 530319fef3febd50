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
import copy
import re
import sys
from pathlib import Path

import torch
from mmaction.apis import init_recognizer
from mmaction.models import Recognizer3D
from mmaction.utils import GradCAM
from mmengine.config import Config, DictAction
from mmengine.dataset import Compose, pseudo_collate
from mmengine.fileio import list_from_file
from mmengine.registry import init_default_scope

from aia_mmaction.datasets.example import find_dataset
from aia_mmaction.plugins.stages import find_pathways, find_stages
from aia_mmaction.utils.config import type_name
from aia_mmaction.utils.files import as_command
from aia_mmaction.visualization import (
    Panel,
    contact_sheet,
    gate_maps,
    layers_by_stage,
    recorded_gates,
    step_images,
    write_gif,
    write_mp4,
)
from aia_mmaction.visualization.gates import COMBINATIONS


class InputError(ValueError):
    """What the user gave cannot be shown."""


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


class Network:
    """A recognizer and what it is given of one video."""

    def __init__(self, config, checkpoint, args):
        self.cfg = Config.fromfile(config)
        self.cfg.merge_from_dict(args.cfg_options or {})
        init_default_scope(self.cfg.get('default_scope', 'mmaction'))
        sample = read_video(args.video, self.cfg)
        self.data = pseudo_collate([Compose(self.cfg.test_pipeline)(sample)])
        self.model = init_recognizer(self.cfg, checkpoint, device=args.device)
        self.scores = None

    def predict(self):
        with torch.no_grad():
            (sample,) = self.model.test_step(copy.deepcopy(self.data))
        scores = sample.pred_score.cpu()  # with average_clips=None of each view
        self.scores = scores.reshape(-1, scores.shape[-1]).mean(0)

    def views(self, images):
        """``[..., H, W, 3]`` of all clips and crops to ``[N, T, H, W, 3]``."""
        if isinstance(self.model, Recognizer3D):
            return images
        sampler = next(
            t
            for t in self.cfg.test_pipeline
            if 'num_clips' in t or 'SampleFrames' in type_name(t)
        )
        return images.reshape(-1, sampler.get('num_clips', 1), *images.shape[-3:])

    def frames(self):
        """Those of the view in the middle, ``[T, H, W, 3]``."""
        # [N, 3, T, H, W] or [N * T, 3, H, W] -> [..., H, W, 3]
        frames = self.data['inputs'][0].movedim(1, -1)
        return middle(self.views(frames)).numpy()

    def prediction(self, labels):
        names = labels or [f'class {i}' for i in range(len(self.scores))]
        if len(names) != len(self.scores):
            raise InputError(
                f'--labels: expected {len(self.scores)} names, '
                f'one per class, got {len(names)}.'
            )
        best = self.scores.topk(min(2, len(names)))
        return ', '.join(
            f'{names[i]} ({score:.3f})'
            for score, i in zip(*map(torch.Tensor.tolist, best))
        )

    def target_layer(self):
        """The module of the last norm of the last block, for vis_cam."""
        *_, pathway = find_pathways(self.model.backbone).values()
        place = find_stages(pathway)[-1][-1][-1]
        (name,) = (n for n, m in self.model.named_modules() if m is place)
        return name.replace('.', '/')

    def grad_cam(self, target_layer):
        """Frames with Grad-CAM over them, ``[T, H, W, 3]`` in 0 to 1."""
        try:
            images, _ = GradCAM(self.model, target_layer)(self.data)
        except KeyError as error:
            raise InputError(
                '--target-layer: expected the path of a module, '
                f'such as {self.target_layer()}, got '
                f'{target_layer}, with no {error}.'
            ) from error
        # [N, T, H, W, 3] or [1, N * T, H, W, 3]
        return middle(self.views(images)).clamp(0, 1).numpy()


def middle(views):
    return views[len(views) // 2]


def read_video(video, cfg):
    """What MMAction2's datasets hand to a pipeline."""
    dataset = find_dataset(cfg, 'test')
    kinds = [type_name(t) for t in cfg.test_pipeline]
    if dataset.get('modality', 'RGB') != 'RGB' or 'PoseDecode' in kinds:
        raise InputError(
            'expected a config that reads pictures, which can be shown, got one of '
            'optical flow or skeletons.'
        )
    reads_frames = any('RawFrame' in kind for kind in kinds)
    if not video.exists():
        raise InputError(f'{video}: there is no such file.')
    if reads_frames != video.is_dir():
        forms = ('a video', 'a folder of frames')
        raise InputError(
            f'{video}: expected {forms[reads_frames]}, which the '
            f'config reads, got {forms[video.is_dir()]}.'
        )
    if not reads_frames:
        return dict(
            filename=str(video),
            label=-1,
            start_index=dataset.get('start_index', 0),
            modality='RGB',
        )
    template = dataset.get('filename_tmpl', 'img_{:05}.jpg')
    pattern = re.sub('{.*}', '*', template)
    total = len(list(video.glob(pattern)))
    if total == 0:
        raise InputError(
            f'{video}: expected frames named {pattern}, as '
            'filename_tmpl of the config says, got none.'
        )
    return dict(
        frame_dir=str(video),
        total_frames=total,
        label=-1,
        start_index=dataset.get('start_index', 1),
        filename_tmpl=template,
        modality='RGB',
    )


def gate_panels(network, args):
    """Panels of the chosen stages, of each layer beside one another."""
    stages = layers_by_stage(network.model)
    if not stages:
        raise InputError(
            f'{args.config}: expected a network with attention, '
            'got one without. Set plugins of its backbone.'
        )
    unknown = set(args.stages or ()) - set(stages)
    if unknown:
        raise InputError(
            f'--stages: expected some of {", ".join(stages)}, '
            f'which have attention, got {sorted(unknown)[0]}.'
        )
    with recorded_gates(network.model) as gates:
        network.predict()
    frames = network.frames()
    rows = []
    for stage in args.stages or stages:
        for layer in stages[stage]:
            title = stage if stage == 'neck' else f'stage {stage}'
            rows.append(
                [
                    Panel(
                        f'{title}, {name}', frames, middle(values).float().cpu().numpy()
                    )
                    for name, values in gate_maps(layer, gates[layer], args.combine)
                ]
            )
    return frames, rows


def draw(args):
    labels = list_from_file(args.labels, encoding='utf-8-sig') if args.labels else None
    network = Network(args.config, args.checkpoint, args)
    frames, rows = gate_panels(network, args)
    title = f'{args.video.name}: {network.prediction(labels)}'
    print(title)

    args.out_dir.mkdir(parents=True, exist_ok=True)
    name = args.video.name if args.video.is_dir() else args.video.stem
    sheet, gif, mp4, compared = written = [
        args.out_dir / f'{name}{end}'
        for end in ('.png', '.gif', '.mp4', '_plain_and_aia.png')
    ]
    input_panel = Panel('input', frames)
    panels = [panel for row in rows for panel in row]
    contact_sheet(sheet, [input_panel, *panels], title)
    images = list(step_images([[input_panel, *row] for row in rows], title))
    write_gif(gif, images, args.fps)
    write_mp4(mp4, images, args.fps)

    target = args.target_layer or network.target_layer()
    if args.plain:
        plain = Network(*args.plain, args)
        plain.predict()
        title = '\n'.join(
            [
                f'{args.video.name}, Grad-CAM of {target}',
                f'plain: {plain.prediction(labels)}',
                f'AIA: {network.prediction(labels)}',
            ]
        )
        contact_sheet(
            compared,
            [
                input_panel,
                Panel('plain', plain.grad_cam(target)),
                Panel('AIA', network.grad_cam(target)),
            ],
            title,
        )
    print('wrote', *written[: None if args.plain else -1])
    use_frames = ['--use-frames'] * args.video.is_dir()
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
