from typing import Optional, Sequence

from torch import Tensor

from aia_mmaction.layers.attention import check_whole_clips

from .num_segments import check_num_segments
from .plugins import insert_plugins

# What an AIA backbone does when it is not told otherwise: the paper's CinST in
# every block.
DEFAULT_PLUGINS = (dict(cfg=dict(type='CinST')), )


class AIABackbone:
    """Mixin that gives a backbone of MMAction2 its ``plugins``.

    Args:
        *args: Passed to the backbone.
        plugins (Sequence[dict], optional): What to insert where, see
            :func:`insert_plugins`. None means one CinST in every block, an
            empty list the plain network. Defaults to None.
        **kwargs: Passed to the backbone.
    """

    def __init__(self,
                 *args,
                 plugins: Optional[Sequence[dict]] = None,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.plugins = DEFAULT_PLUGINS if plugins is None else plugins
        insert_plugins(self, self.plugins)

    def forward(self, x: Tensor):
        """Features of ``[N * num_segments, C, H, W]`` or ``[N, C, T, H, W]``.

        Raises:
            ValueError: If 4-D ``x`` does not hold whole clips.
        """
        # Here and not only in the attention: ResNetTSM reshapes before it.
        if self.plugins:
            check_whole_clips(x, getattr(self, 'num_segments', None), self)
        return super().forward(x)

    def train(self, mode: bool = True) -> 'AIABackbone':
        # The loops call this before their first iteration, when the runner's
        # config is known.
        if self.plugins:
            check_num_segments(self)
        super().train(mode)
        return self
