"""Insert attention layers into the blocks of a backbone.

The `plugins` idiom is mmdet's: a list of ``dict(cfg=..., stages=...,
position=...)``, applied in order, so two entries at a position are a cascade.
"""
from difflib import get_close_matches
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from mmaction.models import C2D
from mmaction.registry import MODELS
from mmcv.cnn import ConvModule
from mmengine.utils import is_seq_of
from torch import nn

from aia_mmaction.layers import build_layer

from .behaviour import attach_behaviour
from .plugged_activation import PluggedActivation, attention_layers, plug

# The authors attend in every second block of a stage this long or longer.
LONG_STAGE = 23

POSITIONS = tuple(f'after_{what}{i}' for what in ('norm', 'conv')
                  for i in (1, 2, 3))


class Plugin(NamedTuple):
    """A validated entry of ``plugins``."""
    cfg: dict
    stages: Sequence[bool]
    position: str
    blocks: Optional[Sequence[int]]

    @classmethod
    def parse(cls, entry: dict, num_stages: int) -> 'Plugin':
        if not isinstance(entry, dict) or 'cfg' not in entry:
            raise TypeError(
                "plugins: expected entries like dict(cfg=dict(type='CinST'), "
                f"position='after_norm2'), got {entry!r}.")
        unknown = set(entry) - set(cls._fields)
        if unknown:
            raise ValueError(
                f'plugins: expected the keys {", ".join(cls._fields)}, got '
                f'{", ".join(sorted(unknown))} in {entry!r}. Options of the '
                "layer belong into its cfg: dict(cfg=dict(type='CinST', "
                '...)).')
        plugin = cls(cfg=entry['cfg'],
                     stages=entry.get('stages', (True, ) * num_stages),
                     position=entry.get('position', 'after_norm2'),
                     blocks=entry.get('blocks'))
        _check_layer_cfg(plugin.cfg)
        if (not is_seq_of(plugin.stages, int)
                or len(plugin.stages) != num_stages
                or not set(plugin.stages) <= {True, False}):
            raise ValueError(
                f'plugins: expected stages to hold {num_stages} bools, one '
                f'per stage of the backbone, got {plugin.stages!r}. Leave it '
                'out for all stages.')
        if plugin.position not in POSITIONS:
            raise ValueError(
                f'plugins: expected position to be one of '
                f'{", ".join(POSITIONS)}, got {plugin.position!r}. The paper '
                'uses after_norm2.')
        if plugin.blocks is not None and (not is_seq_of(plugin.blocks, int)
                                          or len(set(plugin.blocks)) != len(
                                              plugin.blocks)):
            raise ValueError(
                'plugins: expected blocks to be indices such as (0, 2), got '
                f'{plugin.blocks!r}. Leave it out for all blocks.')
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
                'their own, told apart by stages=.')
        return self.blocks


def insert_plugins(model: nn.Module,
                   plugins: Sequence[dict],
                   num_segments: Optional[int] = None) -> nn.Module:
    """Insert attention layers into a backbone, in place.

    Args:
        model (nn.Module): A backbone whose stages are made of blocks of
            ConvModules (MMAction2's ResNet, ResNetTSM and ResNet3d families),
            or a recognizer with such a backbone.
        plugins (Sequence[dict]): Entries with the keys

            - ``cfg``: config of the layer, e.g. ``dict(type='CinST')``;
            - ``stages``: one bool per stage, defaults to all;
            - ``position``: ``'after_norm1'``, ``2`` or ``3`` (before the
              activation) or ``'after_conv1'``, ``2`` or ``3`` (after it),
              defaults to ``'after_norm2'``, the paper's place;
            - ``blocks``: indices of the blocks inside a stage, defaults to
              all, but every second one in a stage of 23 blocks or more, as
              the authors do.
        num_segments (int, optional): Frames per clip, needed for a 2-D
            backbone that has no ``num_segments`` itself. Defaults to None.

    Returns:
        nn.Module: ``model``.

    Raises:
        TypeError: If ``plugins`` is no list of dicts, or the model has no
            blocks to insert into.
        ValueError: If an entry names a layer, position, stage or block that
            does not exist, or ``num_segments`` is missing or disagrees with
            the model. The model is unchanged then.
    """
    backbone = getattr(model, 'backbone', model)
    blocks = _blocks_of_stages(backbone)
    if not is_seq_of(plugins, dict):
        raise TypeError('plugins: expected a list of dicts such as '
                        f"[dict(cfg=dict(type='CinST'))], got {plugins!r}.")
    parsed = [Plugin.parse(plugin, len(blocks)) for plugin in plugins]
    if not parsed:
        return model
    num_segments = _agreed_num_segments(model, backbone, parsed, num_segments)

    # Everything is built before anything is inserted, so that an error leaves
    # the model as it was.
    inserts = [
        (_conv_module(block, plugin.position), plugin.position,
         _build_layer(plugin.cfg, backbone, stage, num_segments))
        for plugin in parsed for stage, stage_blocks in enumerate(blocks)
        for block in (stage_blocks[i]
                      for i in plugin.picked_blocks(stage, len(stage_blocks)))
    ]

    if inserts and not attention_layers(backbone):
        attach_behaviour(backbone)
    if num_segments is not None:
        backbone.num_segments = num_segments
    for conv_module, position, layer in inserts:
        getattr(plug(conv_module), position[:-1]).append(layer)
    return model


def _blocks_of_stages(backbone: nn.Module) -> List[List[nn.Module]]:
    """The blocks of every stage, in order.

    Blocks are looked for below the stage, not in it, because MMAction2 wraps
    them (temporal shift, non-local) and whole stages (temporal pooling).
    """
    blocks = [[
        m for m in getattr(backbone, name).modules()
        if isinstance(getattr(m, 'conv1', None), ConvModule)
    ] for name in getattr(backbone, 'res_layers', ())]
    if not blocks or not all(blocks):
        raise TypeError(
            'insert_plugins: expected a backbone with stages (res_layers) of '
            'blocks made of ConvModules, such as ResNet, ResNetTSM or '
            f'ResNet2Plus1d, got {type(backbone).__name__}.')
    return blocks


def _conv_module(block: nn.Module, position: str) -> ConvModule:
    name = f'conv{position[-1]}'
    conv_module = getattr(block, name, None)
    if not isinstance(conv_module, ConvModule):
        has = [
            p for p in POSITIONS
            if isinstance(getattr(block, f'conv{p[-1]}', None), ConvModule)
        ]
        raise ValueError(
            f'plugins: expected a position that {type(block).__name__} has '
            f'({", ".join(has)}), got {position!r}, but its {name} is no '
            'ConvModule.')
    activation = getattr(conv_module, 'activate', None)
    if (activation is not None and activation.state_dict()
            and not isinstance(activation, PluggedActivation)):
        raise ValueError(
            'insert_plugins: expected an activation without parameters, got '
            f'{activation}, whose checkpoint keys would change. Use '
            "act_cfg=dict(type='ReLU').")
    return conv_module


def _build_layer(cfg: dict, backbone: nn.Module, stage: int,
                 num_segments: Optional[int]) -> nn.Module:
    if num_segments is None:
        return build_layer(cfg)
    # Some networks halve the frames between the first two stages.
    halves = getattr(backbone, 'temporal_pool', False) or isinstance(
        backbone, C2D)
    if halves and stage > 0:
        num_segments //= 2
    return build_layer(_with_num_segments(cfg, num_segments))


def _with_num_segments(cfg: dict, num_segments: int) -> dict:
    cfg = {**cfg, 'num_segments': num_segments}
    if 'branches' in cfg:
        cfg['branches'] = [
            _with_num_segments(branch, num_segments)
            for branch in cfg['branches']
        ]
    return cfg


def _given_num_segments(cfg: dict) -> Iterator[Tuple[str, int]]:
    """What a layer's config, or one of its branches, says itself."""
    if cfg.get('num_segments') is not None:
        yield f"the plugin {cfg['type']}", cfg['num_segments']
    for branch in cfg.get('branches', ()):
        yield from _given_num_segments(branch)


def _check_layer_cfg(cfg: dict) -> None:
    layer_type = cfg.get('type') if isinstance(cfg, dict) else None
    known = ('ChannelContext', 'CinST', 'ParallelAttention',
             'SpatioTemporalContext', 'STinC')
    if layer_type is None:
        raise TypeError(
            "plugins: expected cfg to be a dict such as dict(type='CinST'), "
            f'got {cfg!r}.')
    if isinstance(layer_type, str):
        try:
            found = MODELS.get(layer_type)
        except RuntimeError:  # how the registry says that there is no such key
            found = None
        if found is None:
            raise ValueError(
                f'plugins: expected a layer registered in MODELS, such as '
                f'{", ".join(known)}, got {layer_type!r}.'
                f'{_did_you_mean(layer_type, known)}')
    for branch in cfg.get('branches', ()):
        _check_layer_cfg(branch)


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(str(word).lower(), by_lower, n=1)
    return f' Did you mean {by_lower[close[0]]!r}?' if close else ''


def _agreed_num_segments(model: nn.Module, backbone: nn.Module,
                         plugins: Sequence[Plugin],
                         num_segments: Optional[int]) -> Optional[int]:
    """The frames per clip that everybody who names them agrees on."""
    conv1 = _blocks_of_stages(backbone)[0][0].conv1
    if len(conv1.kernel_size) == 3:  # a 3-D network
        if num_segments is not None:
            raise ValueError(
                'insert_plugins: expected no num_segments for '
                f'{type(backbone).__name__}, whose 5-D features keep the '
                f'frames apart, got {num_segments}. Leave it out.')
        return None
    head = getattr(model, 'cls_head', None)
    given = [('the argument', num_segments),
             ('the backbone', getattr(backbone, 'num_segments', None)),
             ('the head', getattr(head, 'num_segments', None))]
    for plugin in plugins:
        given += _given_num_segments(plugin.cfg)
    given = [(where, n) for where, n in given if n is not None]
    if len({n for _, n in given}) != 1:
        got = ', '.join(f'{n} in {where}' for where, n in given)
        raise ValueError(
            'insert_plugins: expected one num_segments, the frames per clip, '
            f'for the whole model, got {got or "none"}. Give it the value of '
            'num_clips in the pipeline.')
    return given[0][1]
