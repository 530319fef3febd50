"""Recognizers as one function from pixels to scores, and its exports."""

import inspect
import json
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Sequence, Tuple

import torch
from mmaction.models.recognizers.base import BaseRecognizer
from torch import Tensor, nn

from aia_mmaction.utils.config import type_name


class ScoresOfClips(nn.Module):
    """A recognizer without anything of MMEngine around it.

    It does what ``mim test`` does behind the test pipeline: normalise, apply
    the network to each clip and crop, and average.

    Args:
        recognizer (BaseRecognizer): It is set to evaluation mode.
    """

    def __init__(self, recognizer: BaseRecognizer) -> None:
        super().__init__()
        self.recognizer = recognizer
        # Also this module: the exporter of ONNX gives all of it back the mode
        # of the outermost one.
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores of the classes.

        Args:
            inputs (Tensor): Pixels as the test pipeline gives them, 0 to 255,
                ``[N, M, C, H, W]`` for 2-D networks, with all ``M`` frames of
                all clips and crops, or ``[N, M, C, T, H, W]``.

        Returns:
            Tensor: ``[N, classes]``, or ``[N, views, classes]`` for a head
            with ``average_clips=None``.
        """
        feats, options = self.recognizer.extract_feat(
            self._normalise(inputs), test_mode=True
        )
        head = self.recognizer.cls_head
        scores = head(feats, **options)
        # [N * views, classes] -> [N, views, classes]
        scores = scores.reshape(inputs.shape[0], -1, scores.shape[-1])
        if head.average_clips is None:
            return scores
        if head.average_clips == 'prob':
            scores = scores.softmax(-1)
        return scores.mean(1)

    def _normalise(self, x: Tensor) -> Tensor:
        # The data preprocessor's own method wants a list of videos.
        preprocessor = self.recognizer.data_preprocessor
        x = x.float()
        if preprocessor.to_rgb:
            x = x.flip(2)
        if hasattr(preprocessor, 'mean'):
            # [C, 1, 1], or [C, 1, 1, 1] for [N, M, C, T, H, W]
            mean, std = (
                t.view(-1, *(1 for _ in x.shape[3:]))
                for t in (preprocessor.mean, preprocessor.std)
            )
            x = (x - mean) / std
        return x


def to_torch_export(model: nn.Module, inputs: Tensor, path: Path) -> None:
    """Write a program of ``torch.export``, for batches of up to 2^20."""
    torch.export.save(exported_program(model, inputs), path)


def exported_program(model: nn.Module, inputs: Tensor) -> Any:
    """What ``torch.export`` makes of a model, for batches of up to 2^20."""
    # Dynamo, which strict asks for, does not tell all versions that it exports.
    return torch.export.export(
        model, (inputs,), dynamic_shapes=(_any_batch(),), strict=False
    )


def _any_batch() -> Dict[int, Any]:
    return {0: torch.export.Dim('batch', min=1, max=2**20)}


def to_torchscript(model: nn.Module, inputs: Tensor, path: Path) -> None:
    """Write a traced TorchScript module, for batches of any size."""
    with warnings.catch_warnings():
        # Of checks of shapes, which do not vary but for the batch
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        torch.jit.trace(model, inputs).save(str(path))


def to_onnx(model: nn.Module, inputs: Tensor, path: Path) -> None:
    """Write an ONNX model from ``inputs`` to ``scores``, for batches of any
    size, by PyTorch's older exporter, which traces as TorchScript does.
    """
    options: Dict[str, Any] = {}
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        options['dynamo'] = False
    axes = dict(inputs={0: 'batch'}, scores={0: 'batch'})
    _write_onnx(model, inputs, path, dynamic_axes=axes, **options)


def to_onnx_by_dynamo(model: nn.Module, inputs: Tensor, path: Path) -> None:
    """Write the same by PyTorch's newer exporter, which needs onnxscript."""
    _write_onnx(
        model,
        inputs,
        path,
        dynamo=True,
        dynamic_shapes=(_any_batch(),),
        external_data=False,  # one file
        verbose=False,
    )


def _write_onnx(model: nn.Module, inputs: Tensor, path: Path, **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            model,
            (inputs,),
            str(path),
            input_names=['inputs'],
            output_names=['scores'],
            **options,
        )


def describe_onnx(path: Path, pipeline: Sequence[Dict[str, Any]]) -> None:
    """Write a test pipeline into an ONNX file, for whoever has nothing else.

    It becomes ``test_pipeline`` of the metadata, a list in JSON whose entries have
    the names of their transforms as ``type``.
    """
    import onnx

    entries = [{**transform, 'type': type_name(transform)} for transform in pipeline]
    model = onnx.load(str(path))
    onnx.helper.set_model_props(
        model, dict(test_pipeline=json.dumps(entries, default=str))
    )
    onnx.save(model, str(path))


def load_torch_export(path: Path) -> Callable[[Tensor], Tensor]:
    """The function that a ``.pt2`` file holds."""
    return torch.export.load(path).module()


def load_torchscript(path: Path) -> Callable[[Tensor], Tensor]:
    """The function that a ``.ts`` file holds."""
    return torch.jit.load(str(path))


def load_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """The function that a ``.onnx`` file holds, run by onnxruntime."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = InferenceSession(str(path), options, providers=['CPUExecutionProvider'])

    def run(inputs: Tensor) -> Tensor:
        (scores,) = session.run(None, {'inputs': inputs.numpy()})
        return torch.from_numpy(scores)

    return run


class Format(NamedTuple):
    """A kind of file."""

    suffix: str
    write: Callable[[nn.Module, Tensor, Path], None]
    load: Callable[[Path], Callable[[Tensor], Tensor]]
    packages: Tuple[str, ...] = ()  # that write and check it, beside PyTorch


_ONNX = ('onnx', 'onnxruntime')
FORMATS = dict(
    pt2=Format('.pt2', to_torch_export, load_torch_export),
    ts=Format('.ts', to_torchscript, load_torchscript),
    onnx=Format('.onnx', to_onnx, load_onnx, _ONNX),
    onnx_dynamo=Format('.onnx', to_onnx_by_dynamo, load_onnx, (*_ONNX, 'onnxscript')),
)
