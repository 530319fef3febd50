"""What a network is given of a video, and its gates and Grad-CAM on it."""

import copy
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmaction.apis import init_recognizer
from mmaction.models import Recognizer3D
from mmaction.utils import GradCAM
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from torch import Tensor

from aia_mmaction.datasets.example import find_dataset
from aia_mmaction.layers import recorded_gates
from aia_mmaction.plugins.stages import find_pathways, find_stages
from aia_mmaction.utils.config import type_name

from .figures import Panel
from .gates import gate_maps, layers_by_stage


class InputError(ValueError):
    """What the user gave cannot be shown."""


class Network:
    """A recognizer and what it is given of one video.

    Args:
        model (BaseRecognizer): In evaluation mode.
        data (dict): A batch of one video, of a pipeline.
        pipeline (Sequence[dict]): Its config.
    """

    def __init__(
        self, model: Any, data: Dict[str, Any], pipeline: Sequence[Dict[str, Any]]
    ) -> None:
        self.model = model
        self.data = data
        self.pipeline = pipeline
        self.scores: Optional[Tensor] = None

    @classmethod
    def load(
        cls,
        config: str,
        checkpoint: str,
        video: Path,
        device: str = 'cpu',
        cfg_options: Optional[Dict[str, Any]] = None,
    ) -> 'Network':
        """Read a config, a checkpoint, and a video by the test pipeline.

        Args:
            config (str): Path of the config.
            checkpoint (str): Path of the weights.
            video (Path): A video, or a folder of frames where the config reads
                frames.
            device (str): Where it runs. Defaults to ``'cpu'``.
            cfg_options (dict, optional): Changes of the config. Defaults to None.

        Raises:
            InputError: If the config does not read pictures, or the video is
                not what it reads.
        """
        cfg = Config.fromfile(config)
        cfg.merge_from_dict(cfg_options or {})
        init_default_scope(cfg.get('default_scope', 'mmaction'))
        sample = read_video(video, cfg)
        data = pseudo_collate([Compose(cfg.test_pipeline)(sample)])
        model = init_recognizer(cfg, checkpoint, device=device)
        return cls(model, data, cfg.test_pipeline)

    def predict(self) -> None:
        """Compute the scores, the mean of all views'."""
        with torch.no_grad():
            (sample,) = self.model.test_step(copy.deepcopy(self.data))
        scores = sample.pred_score.cpu()  # with average_clips=None of each view
        self.scores = scores.reshape(-1, scores.shape[-1]).mean(0)

    def views(self, images: Tensor) -> Tensor:
        """``[..., H, W, 3]`` of all clips and crops to ``[N, T, H, W, 3]``."""
        if isinstance(self.model, Recognizer3D):
            return images
        sampler = next(
            t
            for t in self.pipeline
            if 'num_clips' in t or 'SampleFrames' in type_name(t)
        )
        return images.reshape(-1, sampler.get('num_clips', 1), *images.shape[-3:])

    def frames(self) -> np.ndarray:
        """Those of the view in the middle, ``[T, H, W, 3]``."""
        # [N, 3, T, H, W] or [N * T, 3, H, W] -> [..., H, W, 3]
        frames = self.data['inputs'][0].movedim(1, -1)
        return middle(self.views(frames)).numpy()

    def prediction(self, labels: Optional[Sequence[str]] = None) -> str:
        """The best two classes with their scores, after :meth:`predict`."""
        assert self.scores is not None
        names = labels or [f'class {i}' for i in range(len(self.scores))]
        if len(names) != len(self.scores):
            raise InputError(
                f'--labels: expected {len(self.scores)} names, '
                f'one per class, got {len(names)}.'
            )
        best = self.scores.topk(min(2, len(names)))
        pairs = zip(best.values.tolist(), best.indices.tolist())
        return ', '.join(f'{names[i]} ({score:.3f})' for score, i in pairs)

    def target_layer(self) -> str:
        """The module of the last norm of the last block, for vis_cam."""
        *_, pathway = find_pathways(self.model.backbone).values()
        host = find_stages(pathway)[-1][-1][-1]
        (name,) = (n for n, m in self.model.named_modules() if m is host)
        return str(name).replace('.', '/')

    def grad_cam(self, target_layer: str) -> np.ndarray:
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


def middle(views: Tensor) -> Tensor:
    """The view in the middle."""
    return views[len(views) // 2]


def read_video(video: Path, cfg: Config) -> Dict[str, Any]:
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
        forms = {False: 'a video', True: 'a folder of frames'}
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


def gate_panels(
    network: Network, chosen: Optional[Sequence[str]], combine: str
) -> Tuple[np.ndarray, List[List[Panel]]]:
    """The frames, and panels of the chosen stages, a list for each layer.

    Args:
        network (Network): Its :meth:`Network.predict` is called.
        chosen (Sequence[str], optional): Stages; None for all with attention.
        combine (str): How the gates of T, H and W become one map; see
            :data:`.gates.COMBINATIONS`.

    Raises:
        InputError: If there is no attention, or a stage without it is chosen.
    """
    stages = layers_by_stage(network.model)
    if not stages:
        raise InputError(
            'expected CinST or another of the attention layers in the backbone or the '
            'neck, got none. Set plugins of the backbone.'
        )
    unknown = set(chosen or ()) - set(stages)
    if unknown:
        raise InputError(
            f'--stages: expected some of {", ".join(stages)}, '
            f'which have attention, got {sorted(unknown)[0]}.'
        )
    with recorded_gates(network.model) as gates:
        network.predict()
    frames = network.frames()
    if frames.shape[-1] != 3:
        raise InputError(
            f'expected frames in colour, got {frames.shape[-1]} channels, as optical '
            'flow has. They cannot be shown.'
        )
    rows = []
    for stage in chosen or stages:
        for layer in stages[stage]:
            title = stage if stage == 'neck' else f'stage {stage}'
            panels = []
            for name, values in gate_maps(layer, gates[layer], combine):
                of_view = middle(values).float().cpu().numpy()
                panels.append(Panel(f'{title}, {name}', frames, of_view))
            rows.append(panels)
    return frames, rows
