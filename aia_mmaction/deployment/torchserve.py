"""A handler of TorchServe for the recognizers of MMAction2.

That of MMAction2 1.2, ``mmaction_handler.py``, hands frames to
``inference_recognizer``, which takes files, and reads a list from what is an
``ActionDataSample``; all requests share one file. ``torch-model-archiver`` copies
this file; docs/deployment.md has the commands.
"""

import base64
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, List, Sequence

import torch
from mmaction.apis import inference_recognizer, init_recognizer
from ts.torch_handler.base_handler import BaseHandler

MOST_LABELS = 5


class RecognizerHandler(BaseHandler):
    """From the bytes of videos to the best classes of each.

    The archive has ``config.py``, a checkpoint and, if names are wanted,
    ``label_map.txt`` with a name in each line.
    """

    def initialize(self, context: Any) -> None:
        """Load the model."""
        properties = context.system_properties
        folder = Path(properties['model_dir'])
        gpu = properties.get('gpu_id')
        on_gpu = torch.cuda.is_available() and gpu is not None
        self.device = torch.device(f'cuda:{gpu}' if on_gpu else 'cpu')
        self.model = init_recognizer(
            str(folder / 'config.py'),
            str(folder / context.manifest['model']['serializedFile']),
            self.device,
        )
        labels = folder / 'label_map.txt'
        self.names = (
            labels.read_text(encoding='utf-8').splitlines() if labels.exists() else None
        )
        self.initialized = True

    def preprocess(self, data: Sequence[Dict[str, Any]]) -> List[bytes]:
        """The videos of a batch of requests; text is taken for base64."""
        videos: List[Any] = [row.get('data') or row.get('body') for row in data]
        return [base64.b64decode(v) if isinstance(v, str) else v for v in videos]

    def inference(self, data: Sequence[bytes], *args: Any, **kwargs: Any) -> List[Any]:
        """The scores of the classes ``[classes]`` of each video."""
        found = []
        with TemporaryDirectory() as folder:
            path = Path(folder) / 'video.mp4'
            for video in data:
                path.write_bytes(video)
                found.append(inference_recognizer(self.model, str(path)).pred_score)
        return found

    def postprocess(self, data: Sequence[torch.Tensor]) -> List[Dict[str, float]]:
        """Names, or numbers, and scores, best first."""
        answers = []
        for scores in data:
            best = scores.topk(min(MOST_LABELS, len(scores)))
            answers.append(
                {
                    self.names[label] if self.names else str(label): score
                    for score, label in zip(*(t.tolist() for t in best))
                }
            )
        return answers
