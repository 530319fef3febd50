from typing import Any

from mmaction.models.backbones.resnet_tsm import ResNetTSM, TemporalShift
from mmaction.registry import MODELS

from aia_mmaction.plugins.grammar import LONG_STAGE
from aia_mmaction.plugins.stages import find_stages

from .base import AIABackbone


@MODELS.register_module()
class AIAResNetTSM(AIABackbone, ResNetTSM):
    """MMAction2's ``ResNetTSM`` with attention.

    Args:
        *args: Arguments of ``ResNetTSM``.
        shift_short_stages (bool): Whether to shift every block of a stage
            shorter than 23 blocks, as the AIA authors' TSM-R101 does. Once
            layer3 has 23 blocks, MMAction2 shifts every second block of all
            stages. It changes nothing in shallower networks, where
            MMAction2 shifts every block itself, and it needs the shift at
            ``shift_place='blockres'``. Defaults to False.
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNetTSM``.

    Raises:
        ValueError: If ``shift_short_stages`` is set without the temporal
            shift in ``blockres`` position.
    """

    def __init__(self, *args, shift_short_stages: bool = False, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if shift_short_stages:
            self._shift_short_stages()

    def _shift_short_stages(self) -> None:
        if not self.is_shift or 'blockres' not in self.shift_place:
            raise ValueError(
                'AIAResNetTSM: expected is_shift=True and shift_place='
                "'blockres' with shift_short_stages=True, got is_shift="
                f'{self.is_shift} and shift_place={self.shift_place!r}. '
                'Leave shift_short_stages out.'
            )
        for stage in find_stages(self):
            if len(stage) >= LONG_STAGE:
                continue
            # MMAction2 shifts the first block of every stage. It knows the
            # stage's number of segments, which temporal_pool halves.
            first: Any = stage[0][0].conv
            for conv1, *_ in stage:
                if not isinstance(conv1.conv, TemporalShift):
                    conv1.conv = TemporalShift(
                        conv1.conv, first.num_segments, first.shift_div
                    )
