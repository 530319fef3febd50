"""Mirrored optical flow, whose horizontal part changes its sign."""

from .repair import Repair


def _flow_is_mirrored_wrongly() -> bool:
    """Mirror two frames of flow that go 20 to the right and 10 down."""
    import numpy as np
    from mmaction.datasets.transforms import Flip

    frames = [np.full((1, 2, 2), (148, 138), np.uint8) for _ in range(2)]
    # Not by transform(), which draws a number from NumPy's global generator
    mirrored = np.stack(Flip()._flip_imgs(frames, 'Flow'))
    return not (mirrored == (107, 138)).all()


def _invert_the_horizontal_part() -> None:
    import mmcv
    from mmaction.datasets.transforms import Flip

    flip_images = Flip._flip_imgs

    def repaired(self, imgs, modality):
        if modality != 'Flow' or imgs[0].ndim == 2:
            return flip_images(self, imgs, modality)
        for img in imgs:
            # [H, W, 2] of x and y, as RawFrameDecode stacks them
            mmcv.imflip_(img, self.direction)
            img[..., 0] = mmcv.iminvert(img[..., 0])
        return imgs

    Flip._flip_imgs = repaired


REPAIR = Repair(
    symptom='Flip inverts both parts of every second frame of optical flow, in place '
    'of the horizontal part of each, since RawFrameDecode stacks the two',
    affected='mmaction2 1.2.0',
    is_broken=_flow_is_mirrored_wrongly,
    mend=_invert_the_horizontal_part,
)
