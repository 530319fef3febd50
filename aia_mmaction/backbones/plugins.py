"""Insert attention layers into the blocks of a backbone.

The `plugins` idiom is mmdet's: a list of ``dict(cfg=..., stages=...,
position=...)``, applied in order, so two entries at a position are a cascade.

MMAction2's blocks are made of :class:`mmcv.cnn.ConvModule`, and a layer is run
as part of a ConvModule's activation: this puts it between the norm and the
ReLU without renaming a parameter, so plain and AIA checkpoints stay
exchangeable. An attention built of ConvModules would not do: MMAction2's
ImageNet loading looks every ConvModule's name up in the file.
"""
from difflib import get_close_matches
from functools import partial
from typing import List, NamedTuple, Optional, Sequence, Tuple

from mmaction.models.backbones.resnet3d import ResNet3d
from mmaction.registry import MODELS
from mmcv.cnn import ConvModule
from mmengine.logging import print_log
from mmengine.utils import is_seq_of
from torch import Tensor, nn

# The authors attend in every second block of a stage this long or longer.
LONG_STAGE = 23

POSITIONS = tuple(f'after_{what}{i}' for what in ('norm', 'conv')
                  for i in (1, 2, 3))


class PluggedActivation(nn.Module):
    """A ConvModule's activation with attention layers before and after it.

    Args:
        activation (nn.Module): The ConvModule's own activation, or an
            ``nn.Identity`` where it has none.
    """

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.after_norm = nn.Sequential()
        self.activation = activation
        self.after_conv = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        return self.after_conv(self.activation(self.after_norm(x)))


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
        if (not is_seq_of(plugin.stages, (bool, int))
                or len(plugin.stages) != num_stages):
            raise ValueError(
                f'plugins: expected stages to hold {num_stages} bools, one '
                f'per stage of the backbone, got {plugin.stages!r}. Leave it '
                'out for all stages.')
        if plugin.position not in POSITIONS:
            raise ValueError(
                f'plugins: expected position to be one of '
                f'{", ".join(POSITIONS)}, got {plugin.position!r}. The paper '
                'uses after_norm2.')
        if plugin.blocks is not None and not is_seq_of(plugin.blocks, int):
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

    if not attention_layers(backbone):
        backbone.register_load_state_dict_post_hook(_log_missing_attention)
        if isinstance(backbone, ResNet3d):
            backbone.init_weights = partial(_init_weights, backbone)
    if num_segments is not None:
        backbone.num_segments = num_segments
    for conv_module, position, layer in inserts:
        if not isinstance(getattr(conv_module, 'activate', None),
                          PluggedActivation):
            _plug(conv_module)
        getattr(conv_module.activate, position[:-1]).append(layer)
    return model


def attention_layers(model: nn.Module) -> List[Tuple[str, nn.Module]]:
    """Name and module of every layer that was inserted into ``model``."""
    return [(f'{name}.{place}.{i}', layer)
            for name, plugged in model.named_modules()
            if isinstance(plugged, PluggedActivation)
            for place in ('after_norm', 'after_conv')
            for i, layer in enumerate(getattr(plugged, place))]


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
        has = [p for p in POSITIONS if hasattr(block, f'conv{p[-1]}')]
        raise ValueError(
            f'plugins: expected a position that {type(block).__name__} has '
            f'({", ".join(has)}), got {position!r}, but the block has no '
            f'{name}.')
    activation = getattr(conv_module, 'activate', None)
    if (activation is not None and activation.state_dict()
            and not isinstance(activation, PluggedActivation)):
        raise ValueError(
            'insert_plugins: expected an activation without parameters, got '
            f'{activation}, whose checkpoint keys would change. Use '
            "act_cfg=dict(type='ReLU').")
    return conv_module


def _plug(conv_module: ConvModule) -> None:
    """Make room for layers in the activation of a ConvModule."""
    if not conv_module.with_activation:
        conv_module.activate = nn.Identity()
        conv_module.with_activation = True
        # ConvModule.init_weights looks into act_cfg of an active activation.
        conv_module.act_cfg = dict(type='Identity')
    conv_module.activate = PluggedActivation(conv_module.activate)


def _build_layer(cfg: dict, backbone: nn.Module, stage: int,
                 num_segments: Optional[int]) -> nn.Module:
    if num_segments is None:
        return MODELS.build(cfg)
    # ResNetTSM's temporal pooling sits between the first two stages.
    if getattr(backbone, 'temporal_pool', False) and stage > 0:
        num_segments //= 2
    return MODELS.build({**cfg, 'num_segments': num_segments})


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
    if len(conv1.kernel_size) == 3:
        if num_segments is not None:
            raise ValueError(
                'insert_plugins: expected no num_segments for '
                f'{type(backbone).__name__}, whose 5-D features keep the '
                f'frames apart, got {num_segments}. Leave it out.')
        return None
    given = {
        'the argument': num_segments,
        'the backbone': getattr(backbone, 'num_segments', None),
        'the head': getattr(getattr(model, 'cls_head', None), 'num_segments',
                            None),
        **{
            f"the plugin {p.cfg['type']}": p.cfg.get('num_segments')
            for p in plugins
        }
    }
    given = {where: n for where, n in given.items() if n is not None}
    if len(set(given.values())) != 1:
        got = ', '.join(f'{n} in {where}' for where, n in given.items())
        raise ValueError(
            'insert_plugins: expected one num_segments, the frames per clip, '
            f'for the whole model, got {got or "none"}. Give it the value of '
            'num_clips in the pipeline.')
    return next(iter(given.values()))


def _init_weights(backbone: ResNet3d, *args, **kwargs) -> None:
    """``ResNet3d.init_weights`` without its reach into the attention.

    Without a checkpoint it re-initialises every ``Conv3d`` below it.
    """
    type(backbone).init_weights(backbone, *args, **kwargs)
    if backbone.pretrained is None:
        for _, layer in attention_layers(backbone):
            layer.init_weights()


def _log_missing_attention(backbone: nn.Module, incompatible_keys) -> None:
    """Say in one line that a plain checkpoint came without attention."""
    own = [
        f'{name}.{key}' for name, layer in attention_layers(backbone)
        for key in layer.state_dict() if 'num_batches_tracked' not in key
    ]
    # Missing keys carry the prefix of whatever model the backbone is part of.
    missing = incompatible_keys.missing_keys
    absent = [key for key in missing if key.endswith(tuple(own))]
    if absent:
        print_log(
            f'{type(backbone).__name__}: {len(absent)} of {len(own)} keys of '
            'the attention are not in the checkpoint and keep their initial '
            f'values; {len(missing) - len(absent)} other keys are missing.',
            logger='current')
