from typing import Optional, Sequence

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
        insert_plugins(self, DEFAULT_PLUGINS if plugins is None else plugins)
