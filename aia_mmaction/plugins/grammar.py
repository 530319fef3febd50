"""What `plugins` may say.

The idiom is mmdet's: a list of ``dict(cfg=..., stages=..., position=...)``,
applied in order, so two entries at a position are a cascade.
"""

from difflib import get_close_matches
from typing import Any, Dict, Iterable, NamedTuple, Optional, Sequence, Union

from mmaction.registry import MODELS
from mmengine.utils import is_seq_of

from aia_mmaction.ops import LAYERS

from .paper_modules import PAPER_MODULES

# The authors attend in every second block of a stage this long or longer.
LONG_STAGE = 23


class Position(NamedTuple):
    """Where in a block a layer goes."""

    slot: str  # 'after_norm' or 'after_conv'
    number: int  # of the norm or convolution in its block, from 1


POSITIONS = {
    f'{slot}{number}': Position(slot, number)
    for slot in ('after_norm', 'after_conv')
    for number in (1, 2, 3)
}


def parse_list(
    plugins: Union[None, str, Sequence[Dict[str, Any]]],
) -> Sequence[Dict[str, Any]]:
    """The entries of ``plugins``; a name stands for a module of the paper."""
    if plugins is None:  # a child config that takes the default back
        plugins = 'CinST'
    if isinstance(plugins, str):
        if plugins not in PAPER_MODULES:
            raise ValueError(
                "plugins: expected one of the paper's modules "
                f'({", ".join(PAPER_MODULES)}) or a list of dicts, got '
                f'{plugins!r}.{_did_you_mean(plugins, PAPER_MODULES)}'
            )
        return PAPER_MODULES[plugins]
    if not is_seq_of(plugins, dict):
        raise TypeError(
            "plugins: expected the name of one of the paper's modules, such "
            "as 'CinST', or a list of dicts such as "
            f"[dict(cfg=dict(type='CinST'))], got {plugins!r}."
        )
    return plugins


class Plugin(NamedTuple):
    """A validated entry of ``plugins``."""

    cfg: Dict[str, Any]
    stages: Sequence[bool]
    position: Optional[str]
    blocks: Optional[Sequence[int]]
    pathways: Sequence[str]

    @classmethod
    def parse(
        cls, entry: Dict[str, Any], num_stages: int, pathways: Sequence[str] = ('',)
    ) -> 'Plugin':
        """Validate an entry for a network of so many stages and these
        pathways.
        """
        if not isinstance(entry, dict) or 'cfg' not in entry:
            raise TypeError(
                "plugins: expected entries like dict(cfg=dict(type='CinST'), "
                f"position='after_norm2'), got {entry!r}."
            )
        unknown = set(entry) - set(cls._fields)
        if unknown:
            raise ValueError(
                f'plugins: expected the keys {", ".join(cls._fields)}, got '
                f'{", ".join(sorted(unknown))} in {entry!r}. Options of the '
                "layer belong into its cfg: dict(cfg=dict(type='CinST', "
                '...)).'
            )
        plugin = cls(
            cfg=entry['cfg'],
            stages=entry.get('stages', (True,) * num_stages),
            position=entry.get('position'),
            blocks=entry.get('blocks'),
            pathways=entry.get('pathways', pathways),
        )
        _check_layer_cfg(plugin.cfg)
        if (
            not is_seq_of(plugin.stages, int)
            or len(plugin.stages) != num_stages
            or not set(plugin.stages) <= {True, False}
        ):
            raise ValueError(
                f'plugins: expected stages to hold {num_stages} bools, one '
                f'per stage of the backbone, got {plugin.stages!r}. Leave it '
                'out for all stages.'
            )
        if plugin.position not in (None, *POSITIONS):
            raise ValueError(
                f'plugins: expected position to be one of '
                f'{", ".join(POSITIONS)}, got {plugin.position!r}. The paper '
                'uses after_norm2.'
            )
        if plugin.blocks is not None and (
            not is_seq_of(plugin.blocks, int)
            or len(set(plugin.blocks)) != len(plugin.blocks)
        ):
            raise ValueError(
                'plugins: expected blocks to be indices such as (0, 2), got '
                f'{plugin.blocks!r}. Leave it out for all blocks.'
            )
        if not (
            is_seq_of(plugin.pathways, str) and set(plugin.pathways) <= set(pathways)
        ):
            raise ValueError(
                'plugins: expected pathways out of '
                f'{", ".join(filter(None, pathways)) or "none"}, got '
                f'{plugin.pathways!r}. Only SlowFast has several.'
            )
        return plugin

    def picked_blocks(self, stage: int, num_blocks: int) -> Sequence[int]:
        """Indices of the blocks of a stage that get the layer."""
        if not self.stages[stage]:
            return ()
        if self.blocks is None:
            return range(0, num_blocks, 2 if num_blocks >= LONG_STAGE else 1)
        outside = [i for i in self.blocks if not 0 <= i < num_blocks]
        if outside:
            raise ValueError(
                f'plugins: expected blocks between 0 and {num_blocks - 1} '
                f'for stage {stage}, which has {num_blocks} blocks, got '
                f'{outside}. Give stages of different length entries of '
                'their own, told apart by stages=.'
            )
        return self.blocks


def _check_layer_cfg(cfg: Dict[str, Any]) -> None:
    layer_type = cfg.get('type') if isinstance(cfg, dict) else None
    known = sorted([*LAYERS, 'ParallelAttention'])
    if layer_type is None:
        raise TypeError(
            "plugins: expected cfg to be a dict such as dict(type='CinST'), "
            f'got {cfg!r}.'
        )
    if isinstance(layer_type, str):
        try:
            found = MODELS.get(layer_type)
        except RuntimeError:  # how the registry says that there is no such key
            found = None
        if found is None:
            raise ValueError(
                f'plugins: expected a layer registered in MODELS, such as '
                f'{", ".join(known)}, got {layer_type!r}.'
                f'{_did_you_mean(layer_type, known)}'
            )
    if getattr(layer_type, '__name__', layer_type) == 'ParallelAttention':
        branches = cfg.get('branches')
        if not is_seq_of(branches, dict) or not branches:
            raise ValueError(
                'plugins: expected the branches of a ParallelAttention, '
                "branches=[dict(type='CinST'), dict(type='STinC')], got "
                f'{branches!r}.'
            )
    for branch in cfg.get('branches', ()):
        _check_layer_cfg(branch)


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(str(word).lower(), by_lower, n=1)
    return f' Did you mean {by_lower[close[0]]!r}?' if close else ''
