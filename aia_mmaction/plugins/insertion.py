"""Insert attention layers into the blocks of a backbone."""

from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union, cast

from mmaction.models import C2D
from mmcv.cnn import ConvModule
from torch import nn

from aia_mmaction.layers import build_layer, parameters_of

from .behaviour import attach_behaviour
from .grammar import POSITIONS, Plugin, parse_list
from .slots import PluggedActivation, attention_layers, has_activation, with_slots
from .stages import Block, find_pathways, find_stages


def insert_plugins(
    model: nn.Module,
    plugins: Union[str, Sequence[Dict[str, Any]]],
    num_segments: Optional[int] = None,
) -> nn.Module:
    """Insert attention layers into a backbone, in place.

    Args:
        model (nn.Module): A convolutional backbone of MMAction2, torchvision,
            timm or mmpretrain, or a recognizer with one.
        plugins (Sequence[dict] | str): The name of one of the paper's
            modules (:data:`PAPER_MODULES`), such as ``'CinST'`` or
            ``'C2ST'``, or a list of entries with the keys

            - ``cfg``: config of the layer, e.g. ``dict(type='CinST')``;
            - ``stages``: one bool per stage, defaults to all;
            - ``position``: ``'after_norm1'``, ``2`` or ``3`` (before the
              activation) or ``'after_conv1'``, ``2`` or ``3`` (after it),
              defaults to ``'after_norm2'``, as in the paper (of C3D, whose
              blocks have one norm, to ``'after_norm1'``). Where norm and
              activation are no unit, as in torchvision, only
              ``'after_norm'`` is there;
            - ``blocks``: indices of the blocks inside a stage, defaults to
              all, but every second one in a stage of 23 blocks or more, as
              the authors do;
            - ``pathways``: of a SlowFast, ``('slow', 'fast')`` or one of
              them, defaults to both.
        num_segments (int, optional): Frames per clip, needed for a 2-D
            backbone that has no ``num_segments`` itself. Defaults to None.

    Returns:
        nn.Module: ``model``.

    Raises:
        TypeError: If ``plugins`` is neither a name nor a list of dicts, or
            the model has no blocks to insert into.
        ValueError: If an entry names a layer, position, stage or block that
            does not exist, or ``num_segments`` is missing or disagrees with
            the model. The model is unchanged then.
    """
    backbone = getattr(model, 'backbone', model)
    plugins = parse_list(plugins)
    # Everything is built before anything is inserted, so that an error leaves
    # the model as it was.
    pathways = find_pathways(backbone)
    inserts = []
    for name, pathway in pathways.items():
        stages = find_stages(pathway)
        parsed = [Plugin.parse(p, len(stages), tuple(pathways)) for p in plugins]
        parsed = [plugin for plugin in parsed if name in plugin.pathways]
        if parsed:
            frames = _agreed_num_segments(model, pathway, stages, parsed, num_segments)
            inserts.append((pathway, frames, _plan(pathway, stages, parsed, frames)))
    for pathway, frames, layers in inserts:
        if layers and not attention_layers(pathway):
            attach_behaviour(pathway)
        if frames is not None:
            pathway.num_segments = frames  # type: ignore[assignment]
        for host, slot, layer in layers:
            # A model may be on its device and in its mode already.
            weight = next(host.parameters())
            layer.to(weight.device, weight.dtype).train(host.training)
            getattr(with_slots(host), slot).append(layer)
    return model


def _plan(
    pathway: nn.Module,
    stages: List[List[Block]],
    plugins: Sequence[Plugin],
    num_segments: Optional[int],
) -> List[Tuple[nn.Module, str, nn.Module]]:
    """What to insert into one pathway of a backbone: host, slot and layer."""
    layers = []
    for plugin in plugins:
        for stage, blocks in enumerate(stages):
            for i in plugin.picked_blocks(stage, len(blocks)):
                # The paper's position, or the nearest to it in C3D, whose
                # blocks are single convolutions.
                name = plugin.position or f'after_norm{min(2, len(blocks[i]))}'
                host = _find_host(blocks[i], name)
                frames = _frames_in_stage(pathway, stage, num_segments)
                layer = build_layer(plugin.cfg, _num_channels(host), frames)
                layers.append((host, POSITIONS[name].slot, layer))
    return layers


def _find_host(block: Block, position: str) -> nn.Module:
    has = [
        name
        for name, (slot, number) in POSITIONS.items()
        if number <= len(block)
        and (slot == 'after_norm' or has_activation(block[number - 1]))
    ]
    if position not in has:
        raise ValueError(
            'plugins: expected a position that the blocks of this backbone '
            f'have ({", ".join(has)}), got {position!r}.'
        )
    host = block[POSITIONS[position].number - 1]
    activation = getattr(host, 'activate', getattr(host, 'act', None))
    if (
        activation is not None
        and activation.state_dict()
        and not isinstance(activation, PluggedActivation)
    ):
        raise ValueError(
            'insert_plugins: expected an activation without parameters, got '
            f'{activation}, whose checkpoint keys would change. Use '
            "act_cfg=dict(type='ReLU')."
        )
    return host


def _frames_in_stage(
    backbone: nn.Module, stage: int, num_segments: Optional[int]
) -> Optional[int]:
    if num_segments is None:
        return None  # a 3-D network
    # Some networks halve the frames between the first two stages.
    halves = getattr(backbone, 'temporal_pool', False) or isinstance(backbone, C2D)
    return num_segments // 2 if halves and stage > 0 else num_segments


def _num_channels(host: nn.Module) -> int:
    """Of what comes out of a host."""
    if isinstance(host, ConvModule):
        return cast(int, host.out_channels)  # C3D's have no norms
    norms = [m for m in host.modules() if hasattr(m, 'num_features')]
    return cast(int, norms[-1].num_features)


def _takes_num_segments(cfg: Dict[str, Any]) -> bool:
    if 'branches' in cfg:
        return any(map(_takes_num_segments, cfg['branches']))
    return 'num_segments' in parameters_of(cfg['type'])


def _given_num_segments(cfg: Dict[str, Any]) -> Iterator[Tuple[str, int]]:
    """What a layer's config, or one of its branches, says itself."""
    if cfg.get('num_segments') is not None:
        yield f'the plugin {cfg["type"]}', cfg['num_segments']
    for branch in cfg.get('branches', ()):
        yield from _given_num_segments(branch)


def _is_3d(host: nn.Module) -> bool:
    if isinstance(host, ConvModule):
        return len(host.kernel_size) == 3
    return isinstance(host, nn.BatchNorm3d)


def _agreed_num_segments(
    model: nn.Module,
    backbone: nn.Module,
    stages: List[List[Block]],
    plugins: Sequence[Plugin],
    num_segments: Optional[int],
) -> Optional[int]:
    """The frames per clip that everybody who names them agrees on."""
    given = [('the argument', num_segments)]
    for plugin in plugins:
        given += _given_num_segments(plugin.cfg)
    if _is_3d(stages[0][0][0]):
        for where, n in given:
            if n is not None:
                raise ValueError(
                    'insert_plugins: expected no num_segments for '
                    f'{type(backbone).__name__}, whose 5-D features keep the '
                    f'frames apart, got {n} in {where}. Leave it out.'
                )
        return None
    head = getattr(model, 'cls_head', None)
    given[1:1] = [
        ('the backbone', getattr(backbone, 'num_segments', None)),
        ('the head', getattr(head, 'num_segments', None)),
    ]
    given = [(where, n) for where, n in given if n is not None]
    needed = any(_takes_num_segments(plugin.cfg) for plugin in plugins)
    if not given and not needed:
        return None
    if len({n for _, n in given}) != 1:
        got = ', '.join(f'{n} in {where}' for where, n in given)
        raise ValueError(
            'insert_plugins: expected one num_segments, the frames per clip, '
            f'for the whole model, got {got or "none"}. Give it the value of '
            'num_clips in the pipeline (of clip_len for C2D).'
        )
    return given[0][1]
