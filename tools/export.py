r"""Export a recognizer for deployment, and check it against the original.

The file takes what the config's test pipeline gives ([N, M, C, H, W], or
[N, M, C, T, H, W] for 3-D networks; of video and optical flow uint8, 0 to 255,
of 2-D skeletons their heat maps, float32), for any batch size N, and returns
the scores that `mim test` reports, [N, classes]. Its name says the format: .pt2
for torch.export, .ts for TorchScript, .onnx for ONNX. It is written only if it
gives the scores of the original.

With --int8 N an ONNX file computes in 8 bits, but for the attention; N videos of
the config's training set tell the range of its maps. What that costs in accuracy,
`tools/evaluate_onnx.py` tells.

Examples:
    python tools/export.py configs/tsm_r50_cinst_sthv1.py epoch_50.pth a.onnx
    python tools/export.py configs/tsn_r50_stinc_sthv2.py epoch_50.pth a.pt2 \
        --fuse-conv-bn
    python tools/export.py configs/tsm_r50_cinst_sthv1.py epoch_50.pth a.onnx \
        --dynamo --int8 100
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
from aia_mmaction.deployment.quantization import calibration_clips, quantize_onnx
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
    parser.add_argument(
        '--dynamo',
        action='store_true',
        help="write ONNX by PyTorch's newer exporter, which needs onnxscript",
    )
    parser.add_argument(
        '--int8', type=int, metavar='N', help='quantise ONNX with N training videos'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args()


def export(model, inputs, out, kind, pipeline=(), clips=None):
    """Write a recognizer's scores as a function.

    Args:
        model (nn.Module): See :class:`ScoresOfClips`.
        inputs (Tensor): A batch of one, as :func:`example_inputs` makes it.
            Only its shape and dtype matter.
        out (Path): The file.
        kind (Format): Of it.
        pipeline (Sequence[dict]): What the inputs come from, written into ONNX
            files.
        clips (Iterable[Tensor], optional): Quantise ONNX with these inputs. The
            deviation is that of the file before.

    Returns:
        float: The largest deviation of a score, relative to the largest one.

    Raises:
        ValueError: If it is more than ``TOLERANCE``.
    """
    generator = torch.Generator().manual_seed(0)
    most = 1 if inputs.is_floating_point() else 256  # of heat maps, of pixels
    # A batch of one would be taken for a constant.
    example, other = (
        (torch.rand(n, *inputs.shape[1:], generator=generator) * most).to(inputs.dtype)
        for n in (2, 1)
    )
    with draft_of(out) as draft, torch.no_grad():
        kind.write(export_attention(model, example), example, draft)
        if kind.suffix == '.onnx' and pipeline:
            describe_onnx(draft, pipeline)
        exported = kind.load(draft)
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
        if clips is not None:
            quantize_onnx(draft, draft, clips)
    return max(errors)


def main():
    args = parse_args()
    suffixes = {kind.suffix for kind in FORMATS.values()}
    if args.out.suffix not in suffixes:
        sys.exit(
            f'{args.out}: expected a name that ends in '
            f'{", ".join(sorted(suffixes))}, got {args.out.suffix or "none"}.'
        )
    if (args.dynamo or args.int8 is not None) and args.out.suffix != '.onnx':
        sys.exit(f'{args.out}: expected .onnx, which --dynamo and --int8 are for.')
    if args.int8 is not None and args.int8 < 1:
        sys.exit(f'--int8: expected at least one video, got {args.int8}.')
    kind = FORMATS['onnx_dynamo' if args.dynamo else args.out.suffix[1:]]
    if not all(map(find_spec, kind.packages)):
        sys.exit(
            f'Expected {", ".join(kind.packages)}, which write and check ONNX. '
            f'pip install {" ".join(kind.packages)}'
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
            ScoresOfClips(recognizer),
            inputs,
            args.out,
            kind,
            find_pipeline(cfg, 'test'),
            None if args.int8 is None else calibration_clips(cfg, args.int8),
        )
    except (OSError, ValueError) as error:
        sys.exit(f'{Path(__file__).name}: {error}')
    print(
        f'Wrote {args.out}: {str(inputs.dtype).split(".")[1]} '
        f'[N, {", ".join(map(str, inputs.shape[1:]))}] to '
        f'scores, for any N. Largest deviation of a score'
        f'{", before it went to 8 bits" if args.int8 else ""}: {error:.1e}.'
    )


if __name__ == '__main__':
    logging.getLogger('torch.onnx').setLevel(logging.ERROR)
    main()
