"""ONNX files in 8 bits, whose attention stays in float."""

import ast
import copy
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Iterable, Iterator, List

import numpy as np
from mmaction.registry import DATASETS
from torch import Tensor

from aia_mmaction.datasets.example import find_dataset, find_pipeline

# Convolutions, and what lies between two of them. The classifier costs nothing, and
# classes whose scores are near each other would have the same in 8 bits.
QUANTIZED = ['Conv', 'Add', 'MaxPool', 'Relu']


def calibration_clips(cfg: Any, count: int) -> Iterator[Tensor]:
    """Videos of the training set, spread over all of it, as they are tested.

    Args:
        cfg (Config): A config.
        count (int): How many, at most.

    Yields:
        Tensor: A batch of one, as the network gets it.
    """
    options = copy.deepcopy(find_dataset(cfg, 'train'))
    options.update(pipeline=find_pipeline(cfg, 'test'), test_mode=True)
    options.pop('protocol', None)  # The pipeline has it.
    dataset = DATASETS.build(options)
    for index in np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int)):
        yield dataset[int(index)]['inputs'][None]


def quantize_onnx(source: Path, out: Path, clips: Iterable[Tensor]) -> None:
    """Write an ONNX file with convolutions and the sums of them in 8 bits.

    It is onnxruntime's static quantisation: weights by channel, maps with the range
    that they have on the clips. Weights take 7 of the 8 bits, since CPUs without
    VNNI add products in 16 bits.

    Args:
        source (Path): A file of ``tools/export.py``.
        out (Path): May be the same.
        clips (Iterable[Tensor]): Inputs of the network, at least one.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.inputs = ({'inputs': clip.numpy()} for clip in clips)

        def get_next(self) -> Any:
            return next(self.inputs, None)

    model = onnx.load(str(source))
    attention = set(nodes_of_attention(model))
    with TemporaryDirectory() as folder:
        # It finds the shapes that quantisation asks for, and has each convolution
        # read its weights itself: an exporter shares equal ones by Identity nodes,
        # behind which onnxruntime would compute in float.
        prepared = Path(folder) / 'prepared.onnx'
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        left_out = [
            node.name
            for node in onnx.load(str(prepared)).graph.node
            if node.name in attention or node.op_type == 'Softmax'
        ]
        result = Path(folder) / 'quantized.onnx'
        quantize_static(
            str(prepared),
            str(result),
            Reader(),
            quant_format=QuantFormat.QDQ,
            # Older versions of onnxruntime ask for the range of every Softmax.
            op_types_to_quantize=[*QUANTIZED, 'Softmax'],
            nodes_to_exclude=left_out,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        quantized = onnx.load(str(result))
        quantized.metadata_props.extend(model.metadata_props)
        onnx.save(quantized, str(out))


def nodes_of_attention(model: Any) -> List[str]:
    """Names of the nodes of :class:`.attention.ExportedAttention` in an ONNX model.

    Its convolutions are known by their weights' names; the others have the same
    scope.
    """
    scopes = {
        _scope(node)
        for node in model.graph.node
        if node.op_type == 'Conv' and re.search(r'(^|\.)band_[CTHW]$', node.input[1])
    }
    return [node.name for node in model.graph.node if _scope(node) in scopes]


def _scope(node: Any) -> str:
    """The module that a node comes from.

    The older exporter names nodes after it, the newer one has a list of the
    modules around it, whose last entry is the node itself.
    """
    for entry in node.metadata_props:
        if entry.key == 'pkg.torch.onnx.name_scopes':
            return '/'.join(ast.literal_eval(entry.value)[:-1])
    return str(node.name).rpartition('/')[0]
