r"""Export a recognizer for deployment, and check it against the original.

The file takes what the config's test pipeline gives ([N, M, C, H, W], or
[N, M, C, T, H, W] for 3-D networks; of video and optical flow uint8, 0 to 255,
of 2-D skeletons their heat maps, float32), for any batch size N, and returns
the scores that `mim test` reports, [N, classes]. Its name says the format: .pt2
for torch.export, .ts for TorchScript, .onnx for ONNX. It is written only if it
gives the scores of the original.

Examples:
    python tools/export.py configs/tsm_r50_cinst_sthv1.py epoch_50.pth a.onnx
    python tools/export.py configs/tsn_r50_stinc_sthv2.py epoch_50.pth a.pt2 \
        --fuse-conv-bn
"""

import argparse
import logging
import pickle
import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from mmaction.apis import init_recognizer
from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config, DictAction
from mmengine.runner import load_checkpoint

from aia_mmaction.datasets.example import example_inputs, find_pipeline
from aia_mmaction.deployment.attention import export_attention
from aia_mmaction.deployment.exports import FORMATS, ScoresOfClips, describe_onnx
from aia_mmaction.utils.files import config_file, draft_of, existing_file

# Of scores, relative to the largest one
TOLERANCE = 1e-4


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', metavar='CONFIG', type=config_file)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', type=existing_file)
    parser.add_argument('out', metavar='OUT', type=Path)
    parser.add_argument(
        '--fuse-conv-bn',
        action='store_true',
        help='fold the norms behind 2-D convolutions',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args()


def export(model, inputs, out, pipeline=()):
    """Write a recognizer's scores as a function.

    Args:
        model (nn.Module): See :class:`ScoresOfClips`.
        inputs (Tensor): A batch of one, as :func:`example_inputs` makes it.
            Only its shape and dtype matter.
        out (Path): The file.
        pipeline (Sequence[dict]): What the inputs come from, written into ONNX
            files.

    Returns:
        float: The largest deviation of a score, relative to the largest one.

    Raises:
        ValueError: If it is more than ``TOLERANCE``.
    """
    write, load = FORMATS[out.suffix]
    generator = torch.Generator().manual_seed(0)
    most = 1 if inputs.is_floating_point() else 256  # of heat maps, of pixels
    # A batch of one would be taken for a constant.
    example, other = (
        (torch.rand(n, *inputs.shape[1:], generator=generator) * most).to(inputs.dtype)
        for n in (2, 1)
    )
    with draft_of(out) as draft, torch.no_grad():
        write(export_attention(model, example), example, draft)
        if out.suffix == '.onnx' and pipeline:
            describe_onnx(draft, pipeline)
        exported = load(draft)
        errors = []
        for inputs in (example, other):
            expected = model(inputs)
            error = (exported(inputs) - expected).abs().max()
            errors.append((error / expected.abs().max()).item())
        if not max(errors) <= TOLERANCE:
            raise ValueError(
                f'{out}: expected scores within {TOLERANCE} of the original, '
                f'got {max(errors):.1e}. It is not written.'
            )
    return max(errors)


def main():
    args = parse_args()
    if args.out.suffix not in FORMATS:
        sys.exit(
            f'{args.out}: expected a name that ends in '
            f'{", ".join(FORMATS)}, got {args.out.suffix or "none"}.'
        )
    if args.out.suffix == '.onnx' and not (
        find_spec('onnx') and find_spec('onnxruntime')
    ):
        sys.exit(
            'Expected onnx and onnxruntime, which write and check ONNX. '
            'pip install onnx onnxruntime'
        )
    if args.out.suffix == '.pt2' and not hasattr(torch.export, 'Dim'):
        sys.exit(f'Expected torch >= 2.4, which can export, got {torch.__version__}.')
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    recognizer = init_recognizer(cfg, device='cpu')
    try:
        inputs = example_inputs(cfg, 'test')
    except ValueError as error:
        sys.exit(f'{Path(__file__).name}: {error}')
    try:
        load_checkpoint(recognizer, args.checkpoint, map_location='cpu', strict=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        sys.exit(
            f'{args.checkpoint}: expected a checkpoint of {args.config}, got: {error}'
        )
    if args.fuse_conv_bn:
        recognizer = fuse_conv_bn(recognizer)
    try:
        error = export(
            ScoresOfClips(recognizer), inputs, args.out, find_pipeline(cfg, 'test')
        )
    except (OSError, ValueError) as error:
        sys.exit(f'{Path(__file__).name}: {error}')
    print(
        f'Wrote {args.out}: {str(inputs.dtype).split(".")[1]} '
        f'[N, {", ".join(map(str, inputs.shape[1:]))}] to '
        f'scores, for any N. Largest deviation of a score: {error:.1e}.'
    )


if __name__ == '__main__':
    logging.getLogger('torch.onnx').setLevel(logging.ERROR)
    main()
