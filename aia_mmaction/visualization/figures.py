"""Frames with maps over them, as a sheet and as a moving picture."""

from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Sequence

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from aia_mmaction.utils.files import draft_of

OPACITY = 0.5
COLORMAP = 'turbo'
INCHES = 1.25  # the height of a frame


class Panel(NamedTuple):
    """A clip, with or without a map over it.

    Attributes:
        title (str): What it shows.
        frames (np.ndarray): ``[T, H, W, 3]``, uint8, RGB.
        heat (np.ndarray, optional): ``[t, h, w]`` of any size; its smallest
            value in the clip is blue, its largest red.
    """

    title: str
    frames: np.ndarray
    heat: Optional[np.ndarray] = None

    def label(self) -> str:
        """The title, and the range of the heat map."""
        if self.heat is None:
            return self.title
        return f'{self.title}\n{self.heat.min():.2f} – {self.heat.max():.2f}'


def contact_sheet(
    panels: Sequence[Panel], title: str, max_columns: int = 8
) -> np.ndarray:
    """Draw a row per panel and a column per frame.

    Args:
        panels (Sequence[Panel]): The rows.
        title (str): The line above.
        max_columns (int): Of longer clips as many frames are shown, evenly
            spaced. Defaults to 8.

    Returns:
        np.ndarray: ``[H, W, 3]``, uint8, RGB.
    """
    columns = min(max_columns, *(len(panel.frames) for panel in panels))
    figure, axes = _grid(len(panels), columns, panels[0].frames, title)
    for row, panel in zip(axes, panels):
        row[0].set_ylabel(
            panel.label(), rotation=0, ha='right', va='center', fontsize=9
        )
        shown = np.linspace(0, len(panel.frames) - 1, columns).round()
        for cell, step in zip(row, shown.astype(int)):
            _draw(cell, panel, step)
            cell.set_xlabel(f'{step + 1}', fontsize=8, labelpad=1)
    return _pixels(figure)


def step_images(rows: Sequence[Sequence[Panel]], title: str) -> Iterator[np.ndarray]:
    """Draw panels beside one another, a picture per frame of the clip.

    Args:
        rows (Sequence[Sequence[Panel]]): All with the same number of frames.
        title (str): The line above.

    Yields:
        np.ndarray: ``[H, W, 3]``, uint8, RGB, of even height and width, which
        video encoders want.
    """
    frames = rows[0][0].frames
    figure, axes = _grid(len(rows), max(map(len, rows)), frames, title)
    for step in range(len(frames)):
        for cells, row in zip(axes, rows):
            for cell, panel in zip(cells, row):
                cell.clear()
                _draw(cell, panel, step)
                cell.set_title(panel.label(), fontsize=9)
            for cell in cells[len(row) :]:
                cell.set_axis_off()
        image = _pixels(figure)
        height, width = (size // 2 * 2 for size in image.shape[:2])
        yield image[:height, :width]


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an ``[H, W, 3]`` RGB picture."""
    with draft_of(path) as draft:
        Image.fromarray(image).save(draft)


def write_gif(path: Path, images: List[np.ndarray], fps: float) -> None:
    """Write ``[H, W, 3]`` RGB pictures as a GIF that starts over."""
    first, *others = [Image.fromarray(image) for image in images]
    with draft_of(path) as draft:
        first.save(
            draft,
            save_all=True,
            append_images=others,
            duration=round(1000 / fps),
            loop=0,
        )


def write_mp4(path: Path, images: List[np.ndarray], fps: float) -> None:
    """Write ``[H, W, 3]`` RGB pictures as a video.

    Raises:
        OSError: If OpenCV cannot encode it.
    """
    with draft_of(path) as draft:
        writer = cv2.VideoWriter(
            str(draft), cv2.VideoWriter.fourcc(*'mp4v'), fps, images[0].shape[1::-1]
        )
        if not writer.isOpened():
            raise OSError(
                f'{path}: expected an OpenCV that encodes MPEG-4, '
                'got one that does not. Install opencv-python.'
            )
        for image in images:
            writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        writer.release()


def _pixels(figure: Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]


def _grid(rows: int, columns: int, frames: np.ndarray, title: str) -> tuple:
    height, width = frames.shape[1:3]
    figure = Figure(
        figsize=(1.6 + columns * INCHES * width / height, 0.5 + rows * (INCHES + 0.3)),
        layout='constrained',
    )
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _draw(cell, panel: Panel, step: int) -> None:
    height, width = panel.frames.shape[1:3]
    cell.imshow(panel.frames[step])
    if panel.heat is not None:
        # A 3-D network may see fewer frames than it is given.
        heat = panel.heat[step * len(panel.heat) // len(panel.frames)]
        cell.imshow(
            heat,
            cmap=COLORMAP,
            alpha=OPACITY,
            vmin=panel.heat.min(),
            vmax=panel.heat.max(),
            interpolation='bilinear',
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        )
    cell.set(xticks=[], yticks=[])
