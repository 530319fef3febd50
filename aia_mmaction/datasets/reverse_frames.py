from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform


@TRANSFORMS.register_module()
class ReverseFrames(BaseTransform):
    """Play a video backwards.

    It belongs between ``SampleFrames`` and the decoder. Of several clips of a
    video each is reversed, and the last one comes first.
    """

    def transform(self, results: dict) -> dict:
        """Reverse ``results['frame_inds']``, ``[num_clips * clip_len]``."""
        results['frame_inds'] = results['frame_inds'][::-1].copy()
        return results
