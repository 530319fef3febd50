"""What attention costs an exported network, against the exported plain one."""

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Callable, List, Sequence

import torch
from mmengine.config import Config
from torch import Tensor, nn

from aia_mmaction.deployment.attention import export_attention
from aia_mmaction.deployment.exports import (
    FORMATS,
    Format,
    ScoresOfClips,
    exported_program,
)
from aia_mmaction.deployment.quantization import quantize_onnx

from .networks import build, frames_per_clip, input_shape
from .timing import Row, Setting
from .verification import WrongResults


def to_aot_inductor(model: nn.Module, inputs: Tensor, path: Path) -> None:
    """Compile a model ahead of time; this needs a C++ compiler."""
    from torch._inductor import aoti_compile_and_package

    aoti_compile_and_package(exported_program(model, inputs), package_path=str(path))


def load_aot_inductor(path: Path) -> Callable[[Tensor], Tensor]:
    """The function of a compiled model."""
    from torch._inductor import aoti_load_package

    return aoti_load_package(str(path))


def to_onnx_int8(model: nn.Module, inputs: Tensor, path: Path) -> None:
    """Quantise with the ranges of these inputs, for the speed alone."""
    FORMATS['onnx'].write(model, inputs, path)
    quantize_onnx(path, path, [inputs])


MEASURED = dict(
    FORMATS,
    onnx_int8=FORMATS['onnx']._replace(write=to_onnx_int8),
    # It compiles for this machine alone, so it is measured, not exported.
    aot_inductor=Format('.pt2', to_aot_inductor, load_aot_inductor),
)
# Of scores, relative to the largest one; not in 8 bits
TOLERANCE = 1e-4


def measure_exports(
    cfg: Config,
    name: str,
    formats: Sequence[str],
    setting: Setting,
    batch: int,
    size: int,
) -> List[Row]:
    """Seconds of an exported network from pixels to scores: without attention, with
    the reference's equations, and as ``tools/export.py`` has it.

    Args:
        cfg (Config): The config.
        name (str): What the table calls it.
        formats (Sequence[str]): Keys of :data:`MEASURED`.
        setting (Setting): How often; exports are for CPUs.
        batch (int): Clips.
        size (int): Side of the frames in pixels.

    Raises:
        ValueError: If the config's network has no attention.
        WrongResults: If a file does not give the scores of the network.
    """
    frames = frames_per_clip(cfg)
    # A batch of one would be taken for a constant.
    example = torch.rand(input_shape(cfg, batch + 1, frames, size)) * 255
    x = example[:batch]
    plain, reference = (
        ScoresOfClips(build(cfg, impl, setting, frames)) for impl in (None, 'reference')
    )
    models = dict(
        plain=plain,
        reference=reference,
        exported=export_attention(reference, example),
    )
    rows: List[Row] = [
        dict(config=name, variant=variant, input='x'.join(map(str, x.shape)))
        for variant in models
    ]
    for key in formats:
        print(f'{name}, {tuple(x.shape)}: {key} ...', file=sys.stderr)
        kind = MEASURED[key]
        with TemporaryDirectory() as folder, torch.no_grad():
            functions = {}
            for variant, model in models.items():
                path = Path(folder) / f'{variant}{kind.suffix}'
                kind.write(model, example, path)
                functions[variant] = partial(kind.load(path), x)
                expected = (plain if variant == 'plain' else reference)(x)
                error = (functions[variant]() - expected).abs().max()
                if key != 'onnx_int8' and not (
                    error <= TOLERANCE * expected.abs().max()
                ):
                    raise WrongResults(
                        f'{name}, {variant}: expected the scores of the network from '
                        f'its {key}, got others by {error:.1e}. No speed is printed.'
                    )
            seconds = setting.interleave(functions)
        for row, variant in zip(rows, models):
            row[f'{key} (ms)'] = 1000 * seconds[variant]
            row[f'{key} ratio'] = seconds[variant] / seconds['plain']
    return rows
