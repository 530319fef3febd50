"""An exported model is served without PyTorch, as MMAction2 tests it."""

import pickle
import re
import sys

import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

pytest.importorskip('onnxruntime')

from tools import predict_onnx

from ..conftest import IN_PROCESS, REPO, call, mmaction2, run

VIDEO = REPO / 'tests/data/videos/testsrc2_mpeg4.mp4'
DECORD = [dict(type='DecordInit'), dict(type='DecordDecode')]
PIPELINES = {
    'TSN': [
        dict(type='SampleFrames', clip_len=1, num_clips=5, test_mode=True),
        dict(type='Resize', scale=(-1, 50)),
        dict(type='CenterCrop', crop_size=44),
        dict(type='FormatShape', input_format='NCHW'),
    ],
    'twice': [
        dict(
            type='SampleFrames',
            clip_len=1,
            num_clips=4,
            twice_sample=True,
            test_mode=True,
        ),
        dict(type='Resize', scale=(70, 50), keep_ratio=False),
        dict(type='ThreeCrop', crop_size=50),
        dict(type='FormatShape', input_format='NCHW'),
    ],
    'clips': [
        dict(
            type='SampleFrames',
            clip_len=8,
            frame_interval=3,
            num_clips=3,
            out_of_bound_opt='repeat_last',
            test_mode=True,
        ),
        dict(type='Resize', scale=(-1, 48), interpolation='bicubic'),
        dict(type='ThreeCrop', crop_size=48),
        dict(type='FormatShape', input_format='NCTHW'),
    ],
}


@pytest.mark.parametrize('name', PIPELINES)
def test_clips_are_those_of_mmaction2(name):
    sampling, *others = PIPELINES[name]
    init, decode = DECORD
    pipeline = [init, sampling, decode, *others]
    init_default_scope('mmaction')
    expected = Compose(pipeline)(dict(filename=str(VIDEO), start_index=0))['imgs']
    clip = dict(reader=predict_onnx.decord.VideoReader(str(VIDEO)))
    for transform in pipeline:
        options = dict(transform)
        predict_onnx.TRANSFORMS[options.pop('type')](clip, **options)
    assert clip['frames'].dtype == expected.dtype
    assert np.array_equal(clip['frames'], expected)


WITHOUT_PYTORCH = """
import runpy, sys

class No:
    def find_spec(self, name, *args):
        if name.partition('.')[0] in ('torch', 'mmcv', 'mmengine', 'mmaction'):
            raise ImportError(f'{name} is not here')

sys.meta_path.insert(0, No())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.slow
def test_scores_are_those_of_mim_test(motion_pairs, tmp_path):
    config = REPO / 'configs/tsn_r18_cinst_motion-pairs.py'
    checkpoint, dump = tmp_path / 'epoch_1.pth', tmp_path / 'dump.pkl'
    model = tmp_path / 'model.onnx'
    training = 'train_cfg.max_epochs=1', 'train_dataloader.dataset.indices=8'
    mmaction2(
        'train',
        config,
        '--work-dir',
        tmp_path,
        '--cfg-options',
        *IN_PROCESS,
        *training,
        cwd=motion_pairs,
    )
    options = '--dump', dump, '--cfg-options', *IN_PROCESS
    mmaction2('test', config, checkpoint, *options, cwd=motion_pairs)
    export = REPO / 'tools/export.py', config, checkpoint
    call(*export, model, cwd=motion_pairs)
    data = motion_pairs / 'data/motion_pairs'
    lines = (data / 'motion_pairs_test_list_videos.txt').read_text().splitlines()
    videos = [str(data / 'videos' / line.split()[0]) for line in lines]
    tool = REPO / 'tools/predict_onnx.py'
    command = sys.executable, '-c', WITHOUT_PYTORCH, tool, model, *videos
    printed = run(*command, '--topk', 8, cwd=motion_pairs)
    found = re.findall(r'(\S+): (\d+) ([\d.]+)\n', printed)
    predictions = pickle.loads(dump.read_bytes())
    assert len(predictions) == len(videos)
    for video, prediction in zip(videos, predictions):
        scores = {int(label): float(s) for v, label, s in found if v == video}
        expected = prediction['pred_score'].tolist()
        assert len(scores) == len(expected)
        assert max(abs(scores[i] - s) for i, s in enumerate(expected)) < 1e-3

    # In 8 bits the file is a quarter, and its metric that of the test set.
    in_8_bits = tmp_path / 'int8.onnx'
    call(*export, in_8_bits, '--int8', 4, cwd=motion_pairs)
    assert in_8_bits.stat().st_size < 0.4 * model.stat().st_size
    evaluate = REPO / 'tools/evaluate_onnx.py', config, model, in_8_bits
    printed = call(*evaluate, '--cfg-options', *IN_PROCESS, cwd=motion_pairs)
    right = [p['pred_label'] == p['gt_label'] for p in predictions]
    assert f'{model}: acc/top1: {np.mean(right):.4f}' in printed
    assert f'{in_8_bits}: acc/top1: ' in printed


def test_a_model_of_others(tmp_path):
    onnx = pytest.importorskip('onnx')
    value = onnx.helper.make_tensor_value_info('inputs', 1, [1])
    output = onnx.helper.make_tensor_value_info('scores', 1, [1])
    node = onnx.helper.make_node('Identity', ['inputs'], ['scores'])
    graph = onnx.helper.make_graph([node], 'graph', [value], [output])
    opset = onnx.helper.make_opsetid('', 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.save(model, str(tmp_path / 'x.onnx'))
    with pytest.raises(ValueError, match='expected the test pipeline that tools/exp'):
        predict_onnx.Predictor(tmp_path / 'x.onnx')
