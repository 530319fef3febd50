"""What NumPy 2 took away or made stricter, and MMAction2 1.2 still uses."""

from typing import Any

import cv2
import numpy as np
from numpy import ndarray


def _in1d(ar1: Any, ar2: Any, **kwargs: Any) -> ndarray:
    return np.isin(np.ravel(ar1), ar2, **kwargs)


# By their old names
NAMES = {
    'Inf': np.inf,
    'NAN': np.nan,
    'in1d': _in1d,
    'trapz': getattr(np, 'trapezoid', None),
}


def names_are_missing() -> bool:
    """Whether NumPy lacks one of :data:`NAMES`."""
    return not all(hasattr(np, name) for name in NAMES)


def give_names_back() -> None:
    """Put the missing ones of :data:`NAMES` into NumPy."""
    for name, value in NAMES.items():
        if not hasattr(np, name):
            setattr(np, name, value)


def hue_cannot_be_lowered() -> bool:
    """Whether MMAction2's ColorJitter fails on half of its random numbers."""
    from mmaction.datasets.transforms import ColorJitter

    try:
        ColorJitter.adjust_hue(np.zeros((1, 1, 3)), -0.1)
    except OverflowError:  # a negative int, added to uint8
        return True
    return False


def let_hue_be_lowered() -> None:
    """Add negative offsets in a type that holds them, as NumPy 1 did."""
    from mmaction.datasets.transforms import ColorJitter

    adjust_hue = ColorJitter.adjust_hue

    def repaired(img: ndarray, factor: float) -> ndarray:
        offset = int(factor * 255)
        if offset >= 0:
            return adjust_hue(img, factor)
        hsv = cv2.cvtColor(img.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV)
        # OpenCV's hues of uint8 are 0 to 179.
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + offset) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)

    ColorJitter.adjust_hue = staticmethod(repaired)
