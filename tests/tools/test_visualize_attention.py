import re
import sys

import cv2
import numpy as np
import pytest
import torch
from decord import VideoReader
from mmaction.registry import MODELS
from mmengine.config import Config
from PIL import Image

from aia_mmaction.visualization import video as on_video
from tools import visualize_attention as tool

from ..conftest import REPO, run

CONFIGS = REPO / 'configs'
AIA = CONFIGS / 'tsn_r18_cinst_motion-pairs.py'
PLAIN = CONFIGS / 'tsn_r18_motion-pairs.py'
NAMES = 'data/motion_pairs/label_map.txt'


@pytest.fixture
def video(motion_pairs):
    return motion_pairs / 'data/motion_pairs/videos/test/00000.avi'


def checkpoint(folder, config, **model):
    cfg = Config.fromfile(config)
    cfg.model.backbone.pretrained = None
    cfg.merge_from_dict({f'model.{key}': v for key, v in model.items()})
    network = MODELS.build(cfg.model)
    network.init_weights()
    path = folder / f'{config.stem}.pth'
    torch.save(dict(state_dict=network.state_dict(), meta={}), path)
    return path


def visualize(monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['visualize_attention', *map(str, args)])
    tool.main()


def refused(monkeypatch, *args):
    with pytest.raises(SystemExit) as error:
        visualize(monkeypatch, *args)
    assert error.value.code != 0
    return str(error.value)


def rows_of(sheet):
    """How many rows of pictures a sheet has."""
    image = np.asarray(Image.open(sheet).convert('L'))
    # Lines of which much is not white are pictures
    dark = (image < 250).mean(1) > 0.4
    return int((np.diff(dark.astype(int)) == 1).sum())


@pytest.mark.slow
def test_whole_command(motion_pairs, video, tmp_path):
    log = run(
        sys.executable,
        REPO / 'tools/visualize_attention.py',
        AIA,
        checkpoint(tmp_path, AIA),
        video,
        '--labels',
        NAMES,
        '--plain',
        PLAIN,
        checkpoint(tmp_path, PLAIN),
        '--out-dir',
        tmp_path / 'out',
        cwd=motion_pairs,
    )
    assert re.search(r'00000\.avi: \w.*\(0\.\d{3}\), \w.*\(0\.\d{3}\)', log)
    # the layer named for vis_cam, as its documentation writes them
    assert '--target-layer-name backbone/layer4/1/conv2 ' in log
    out = tmp_path / 'out'
    assert sorted(path.name for path in out.iterdir()) == [
        '00000.gif',
        '00000.mp4',
        '00000.png',
        '00000_plain_and_aia.png',
    ]
    assert rows_of(out / '00000.png') == 1 + 4 * 2  # C and THW of four stages
    assert rows_of(out / '00000_plain_and_aia.png') == 3
    assert Image.open(out / '00000.gif').n_frames == 8
    assert len(VideoReader(str(out / '00000.mp4'))) == 8


@pytest.mark.slow
def test_prediction_is_that_of_the_network(monkeypatch, video, tmp_path, capsys):
    from mmaction.apis import inference_recognizer, init_recognizer

    weights = checkpoint(tmp_path, AIA)
    options = ['--stages', 4, '--out-dir', tmp_path]
    visualize(monkeypatch, AIA, weights, video, *options)
    model = init_recognizer(str(AIA), str(weights), device='cpu')
    expected = inference_recognizer(model, str(video)).pred_score
    label, score = re.search(
        r'class (\d) \((0\.\d+)\)', capsys.readouterr().out
    ).groups()
    assert int(label) == expected.argmax()
    assert float(score) == pytest.approx(expected.max().item(), abs=5e-4)


def test_chosen_stages(monkeypatch, video, tmp_path):
    visualize(
        monkeypatch,
        AIA,
        checkpoint(tmp_path, AIA),
        video,
        '--stages',
        '3',
        '--combine',
        'mean',
        '--out-dir',
        tmp_path,
    )
    assert rows_of(tmp_path / '00000.png') == 3


def frame_folder(folder, count):
    folder.mkdir()
    for i in range(1, count + 1):
        image = np.full((100, 120, 3), 3 * i, np.uint8)
        cv2.imwrite(str(folder / f'{i:05}.jpg'), image)
    return folder


@pytest.mark.slow
def test_frames_and_shift(monkeypatch, tmp_path):
    config = CONFIGS / 'tsm_r50_stinc_sthv1.py'
    weights = checkpoint(tmp_path, config, **{'backbone.pretrained2d': False})
    frames = frame_folder(tmp_path / 'clip.1', 12)
    visualize(
        monkeypatch,
        config,
        weights,
        frames,
        '--stages',
        '4',
        '--cfg-options',
        'model.backbone.pretrained2d=False',
        '--out-dir',
        tmp_path / 'out',
    )
    # A folder's name has no suffix to take off.
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'clip.1.gif',
        'clip.1.mp4',
        'clip.1.png',
    ]


@pytest.mark.slow
def test_three_dimensional_network_of_several_views(monkeypatch, video, tmp_path):
    config = CONFIGS / 'r2plus1d_r34_cinst_kinetics400.py'
    monkeypatch.setattr(
        on_video, 'middle', lambda views: seen.append(len(views)) or views[0]
    )
    seen = []
    types = [t['type'] for t in Config.fromfile(config).test_pipeline]
    sampler, resize, crop = map(types.index, ('SampleFrames', 'Resize', 'ThreeCrop'))
    visualize(
        monkeypatch,
        config,
        checkpoint(tmp_path, config),
        video,
        '--stages',
        '4',
        '--plain',
        config,
        checkpoint(tmp_path, config),
        '--out-dir',
        tmp_path / 'out',
        '--cfg-options',
        f'test_pipeline.{sampler}.num_clips=2',
        f'test_pipeline.{resize}.scale=(-1,32)',
        f'test_pipeline.{crop}.crop_size=32',
    )
    assert set(seen) == {6}  # two clips, three crops


def test_video_and_frames_are_told_apart(monkeypatch, video, tmp_path):
    message = refused(monkeypatch, AIA, 'none.pth', tmp_path)
    assert 'expected a video, which the config reads, got a folder' in message
    message = refused(
        monkeypatch, CONFIGS / 'tsm_r50_cinst_sthv1.py', 'none.pth', video
    )
    assert 'expected a folder of frames' in message
    message = refused(
        monkeypatch,
        CONFIGS / 'tsm_r50_cinst_sthv1.py',
        'none.pth',
        frame_folder(tmp_path / 'empty', 0),
    )
    assert 'expected frames named *.jpg' in message


@pytest.mark.slow
def test_bad_input(monkeypatch, video, tmp_path):
    weights = checkpoint(tmp_path, AIA)
    out = ['--out-dir', tmp_path / 'out']
    message = refused(monkeypatch, AIA, weights, tmp_path / 'none.avi')
    assert 'none.avi: there is no such file' in message
    message = refused(monkeypatch, AIA, weights, video, '--stages', '5', *out)
    assert 'expected some of 1, 2, 3, 4' in message
    labels = tmp_path / 'labels.txt'
    labels.write_text('one\n')
    message = refused(monkeypatch, AIA, weights, video, '--labels', labels, *out)
    assert 'expected 8 names, one per class, got 1' in message
    message = refused(monkeypatch, PLAIN, checkpoint(tmp_path, PLAIN), video, *out)
    assert 'expected CinST or another of the attention layers' in message
    message = refused(
        monkeypatch,
        AIA,
        weights,
        video,
        '--plain',
        PLAIN,
        checkpoint(tmp_path, PLAIN),
        '--target-layer',
        'backbone/layer9',
        *out,
    )
    assert 'such as backbone/layer4/1/conv2' in message
    (tmp_path / 'broken.avi').write_bytes(b'RIFF')
    message = refused(monkeypatch, AIA, weights, tmp_path / 'broken.avi')
    assert 'broken.avi cannot be read' in message
    message = refused(monkeypatch, AIA, tmp_path / 'none.pth', video)
    assert 'none.pth' in message
