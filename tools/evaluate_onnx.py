r"""Test ONNX files as `mim test` tests a checkpoint: with data and metrics of a config.

It tells what a quantised file has lost. onnxruntime runs the files.

Examples:
    python tools/evaluate_onnx.py configs/tsm_r50_cinst_sthv1.py tsm.onnx
    python tools/evaluate_onnx.py configs/tsm_r50_cinst_sthv1.py tsm.onnx \
        tsm_int8.onnx --cfg-options test_dataloader.num_workers=2
"""

import argparse
import sys
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from rich.progress import track

from aia_mmaction.deployment.exports import load_onnx
from aia_mmaction.utils.files import config_file, existing_file


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', metavar='CONFIG', type=config_file)
    parser.add_argument('models', metavar='MODEL.onnx', nargs='+', type=existing_file)
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    init_default_scope('mmaction')
    loader = Runner.build_dataloader(cfg.test_dataloader)
    evaluators = {}
    for path in args.models:
        evaluators[path] = Evaluator(cfg.test_evaluator), load_onnx(Path(path))
        evaluators[path][0].dataset_meta = loader.dataset.metainfo
    for batch in track(loader, disable=not sys.stderr.isatty()):
        inputs = torch.stack(batch['inputs'])
        for evaluator, scores_of in evaluators.values():
            for sample, scores in zip(batch['data_samples'], scores_of(inputs)):
                sample.set_pred_score(scores).set_pred_label(scores.argmax())
            evaluator.process(batch['data_samples'], batch)
    for path, (evaluator, _) in evaluators.items():
        metrics = evaluator.evaluate(len(loader.dataset))
        found = ', '.join(f'{key}: {value:.4f}' for key, value in metrics.items())
        print(f'{path}: {found}')


if __name__ == '__main__':
    main()
