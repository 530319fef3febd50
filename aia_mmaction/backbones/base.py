from typing import Sequence, Union

from aia_mmaction.plugins import insert_plugins


class AIABackbone:
    """Mixin that gives a backbone of MMAction2 its ``plugins``.

    Args:
        *args: Passed to the backbone.
        plugins (Sequence[dict] | str): What to insert where, see
            :func:`insert_plugins`; an empty list is the plain network.
            Defaults to ``'CinST'``: one in every block.
        **kwargs: Passed to the backbone.
    """

    def __init__(
        self, *args, plugins: Union[str, Sequence[dict]] = 'CinST', **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        insert_plugins(self, plugins)  # type: ignore[arg-type]  # a backbone, too


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
