from typing import Optional, Sequence

from .insertion import insert_plugins


class AIABackbone:
    """Mixin that gives a backbone of MMAction2 its ``plugins``.

    Args:
        *args: Passed to the backbone.
        plugins (Sequence[dict], optional): What to insert where, see
            :func:`insert_plugins`. None means one CinST in every block, an
            empty list the plain network. Defaults to None.
        **kwargs: Passed to the backbone.
    """

    # The paper's CinST in every block.
    default_plugins: Sequence[dict] = (dict(cfg=dict(type='CinST')), )

    def __init__(self,
                 *args,
                 plugins: Optional[Sequence[dict]] = None,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        insert_plugins(self,
                       self.default_plugins if plugins is None else plugins)


class AIAFrameBackbone(AIABackbone):
    """The same for a backbone that does not know how many frames a clip has.

    Args:
        num_segments (int): Frames per clip, ``num_clips`` of the pipeline.
            Defaults to 8.
    """

    def __init__(self, *args, num_segments: int = 8, **kwargs) -> None:
        # nn.Module takes plain attributes before its own __init__.
        self.num_segments = num_segments
        super().__init__(*args, **kwargs)
