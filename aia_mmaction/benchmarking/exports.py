"""What attention costs an exported network, against the exported plain one."""

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import List, Sequence

import torch
from mmengine.config import Config

from aia_mmaction.deployment.attention import export_attention
from aia_mmaction.deployment.exports import FORMATS, ScoresOfClips

from .networks import Row, build, frames_per_clip, input_shape
from .timing import Setting
from .verification import WrongResults

# Of scores, relative to the largest one
TOLERANCE = 1e-4


def measure_exports(
    cfg: Config,
    name: str,
    suffixes: Sequence[str],
    setting: Setting,
    batch: int,
    size: int,
) -> List[Row]:
    """Seconds of an exported network from pixels to scores: without attention, with
    the reference's equations, and as ``tools/export.py`` has it.

    Args:
        cfg (Config): The config.
        name (str): What the table calls it.
        suffixes (Sequence[str]): Keys of :data:`.FORMATS`.
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
    for suffix in suffixes:
        print(f'{name}, {tuple(x.shape)}: {suffix} ...', file=sys.stderr)
        write, load = FORMATS[suffix]
        with TemporaryDirectory() as folder, torch.no_grad():
            functions = {}
            for variant, model in models.items():
                path = Path(folder) / f'{variant}{suffix}'
                write(model, example, path)
                functions[variant] = partial(load(path), x)
                expected = (plain if variant == 'plain' else reference)(x)
                error = (functions[variant]() - expected).abs().max()
                if not error <= TOLERANCE * expected.abs().max():
                    raise WrongResults(
                        f'{name}, {variant}: expected the scores of the network from '
                        f'its {suffix}, got others by {error:.1e}. No speed is printed.'
                    )
            seconds = setting.interleave(functions)
        for row, variant in zip(rows, models):
            row[f'{suffix[1:]} (ms)'] = 1000 * seconds[variant]
            row[f'{suffix[1:]} ratio'] = seconds[variant] / seconds['plain']
    return rows
