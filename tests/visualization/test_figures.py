import numpy as np
import pytest
from decord import VideoReader
from PIL import Image

from aia_mmaction.visualization import (
    Panel,
    contact_sheet,
    step_images,
    write_gif,
    write_mp4,
    write_png,
)

FRAMES = np.full((5, 30, 40, 3), 128, np.uint8)


def heat(steps=5):
    values = np.zeros((steps, 3, 4))
    values[-1, 0] = 1  # above, in the last frame
    return values


def image_of(path):
    return np.asarray(Image.open(path).convert('RGB'), int)


def redness(image):
    return (image[..., 0] - image[..., 2]).clip(0).sum()


def test_contact_sheet_has_a_cell_per_frame(tmp_path):
    narrow = contact_sheet([Panel('input', FRAMES)], 'title').shape
    sheet = contact_sheet([Panel('a', FRAMES)] * 3, 'title', max_columns=2)
    height, width, _ = sheet.shape
    assert height > 2 * narrow[0] and width < narrow[1]
    path = tmp_path / 'sheet.png'
    write_png(path, sheet)
    grey = (image_of(path) == 128).all(-1).mean()
    assert grey > 0.4  # the frames are drawn


def test_heat_is_where_it_belongs(tmp_path):
    images = list(step_images([[Panel('x', FRAMES, heat())]], 'title'))
    assert len(images) == 5
    red = [redness(image.astype(int)) for image in images]
    assert red[-1] > 100 * max(*red[:-1], 1)
    panel = images[-1][(images[-1] < 200).all(-1).any(1)].astype(int)
    above, below = np.array_split(panel, 2)
    assert redness(above) > 10 * redness(below)


def test_fewer_steps_than_frames():
    frames = FRAMES[:4]
    images = list(step_images([[Panel('x', frames, heat(2))]], 'title'))
    red = [redness(image.astype(int)) for image in images]
    assert min(red[2:]) > 100 * max(*red[:2], 1)


def test_scale_is_written_beside_the_map():
    assert Panel('C gate', FRAMES, heat() / 2).label() == 'C gate\n0.00 – 0.50'
    assert Panel('input', FRAMES).label() == 'input'


def test_gif_and_mp4(tmp_path):
    moving = FRAMES + np.arange(5, dtype=np.uint8)[:, None, None, None] * 20
    rows = [[Panel('input', moving), Panel('x', moving, heat())]] * 2
    images = list(step_images(rows, 'title'))
    write_gif(tmp_path / 'x.gif', images, fps=4)
    gif = Image.open(tmp_path / 'x.gif')
    assert (gif.n_frames, gif.info['duration'], gif.info['loop']) == (5, 250, 0)
    write_mp4(tmp_path / 'x.mp4', images, fps=4)
    video = VideoReader(str(tmp_path / 'x.mp4'))
    assert len(video) == 5
    assert video.get_avg_fps() == pytest.approx(4)
    difference = video[4].asnumpy().astype(int) - images[4]
    assert np.abs(difference).mean() < 8  # compressed, in the same colours


def test_what_was_there_survives_an_error(tmp_path, monkeypatch):
    path = tmp_path / 'x.gif'
    path.write_text('old')

    def full(*args, **kwargs):
        raise OSError('No space left on device')

    monkeypatch.setattr(Image.Image, 'save', full)
    with pytest.raises(OSError):
        write_gif(path, [FRAMES[0]], fps=4)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [('x.gif', 'old')]
