"""Hues that are lowered, which NumPy 2 refuses to MMAction2's ColorJitter."""

from .repair import Repair


def _hue_cannot_be_lowered() -> bool:
    import numpy as np
    from mmaction.datasets.transforms import ColorJitter

    try:
        ColorJitter.adjust_hue(np.zeros((1, 1, 3)), -0.1)
    except OverflowError:  # a negative int, added to uint8
        return True
    return False


def _let_hue_be_lowered() -> None:
    """Add negative offsets in a type that holds them, as NumPy 1 did."""
    import cv2
    import numpy as np
    from mmaction.datasets.transforms import ColorJitter

    adjust_hue = ColorJitter.adjust_hue

    def repaired(img: np.ndarray, factor: float) -> np.ndarray:
        offset = int(factor * 255)
        if offset >= 0:
            return adjust_hue(img, factor)
        hsv = cv2.cvtColor(img.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV)
        # OpenCV's hues of uint8 are 0 to 179.
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + offset) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)

    ColorJitter.adjust_hue = staticmethod(repaired)


REPAIR = Repair(
    symptom='NumPy 2 adds no negative number to unsigned ones, as ColorJitter '
    'does to lower a hue',
    affected='mmaction2 1.2.0 with numpy >= 2.0',
    is_broken=_hue_cannot_be_lowered,
    mend=_let_hue_be_lowered,
)
