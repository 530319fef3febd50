"""Where backbones have their blocks, and the hosts in them.

All of it is read off the built network. Blocks are looked for below a stage,
not in it, because MMAction2 wraps them (temporal shift, non-local, TAM) and
whole stages (temporal pooling).
"""

from typing import Any, Dict, List, Optional

from mmaction.models import C3D, MobileNetV2, ResNet3dSlowFast
from mmaction.models.backbones.mobilenet_v2 import InvertedResidual
from mmcv.cnn import ConvModule
from torch import nn

NORMS = (nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
# Branches of a block, in Inception, ShuffleNet, RepVGG, SK and Res2Net.
PARALLEL = ('branch', 'identity', 'conv_kxk', 'paths', 'bns')

# The hosts of a block: its ConvModules, in the order of their norms; in networks
# that are not made of them its norms, or what holds a norm with its activation.
Block = List[nn.Module]

# What leads around a block in torchvision, timm and mmpretrain, and what was
# inserted before.
SIDE_PATHS = {'downsample', 'shortcut', 'proj', 'after_norm', 'after_conv'}


# Networks of MMAction2 that have blocks with norms, and why they are refused
UNFIT = {
    'AAGCN': 'its batch is of persons, and its maps are of joints',
    'OmniResNet': 'for images it reads weights past the norms, and the attention '
    'with them',
    'ResNetAudio': 'a spectrogram has no frames',
    'STGCN': 'its batch is of persons, and its maps are of joints',
    'UniFormer': 'its norms are in front of what would be attended. AIANeck puts '
    'the same attention behind it',
}


def find_pathways(backbone: nn.Module) -> Dict[str, nn.Module]:
    """The networks inside a backbone that have stages of their own."""
    if isinstance(backbone, ResNet3dSlowFast):
        return dict(slow=backbone.slow_path, fast=backbone.fast_path)
    return {'': backbone}


def find_stages(pathway: nn.Module) -> List[List[Block]]:
    """The blocks of every stage, in order.

    Raises:
        TypeError: If there are none, or attention in them would be of no use.
    """
    for cls in type(pathway).__mro__:
        if cls.__module__.startswith('mmaction.') and cls.__name__ in UNFIT:
            raise TypeError(
                'insert_plugins: expected a network whose norms see the frames '
                f'of clips, got {cls.__name__}: {UNFIT[cls.__name__]}.'
            )
    if isinstance(pathway, C3D):  # five stages of plain convolutions
        stages = [
            [
                [conv]
                for name, conv in pathway.named_children()
                if name.startswith(f'conv{i}')
            ]
            for i in range(1, 6)
        ]
    elif _is_mobileone(pathway):
        names: Any = pathway.stages
        stages = [_pairs(getattr(pathway, name)) for name in names]
    else:
        if isinstance(pathway, MobileNetV2):
            names = [n for n in pathway.layers if n.startswith('layer')]
        else:
            names = getattr(pathway, 'res_layers', [])
        stages = [
            [block for block in map(_block, getattr(pathway, name).modules()) if block]
            for name in names
        ]
        if not any(stages):
            stages = _stages_of_norms(pathway)
            _check_chains(pathway, stages)
    if not stages or not all(stages):
        raise TypeError(
            'insert_plugins: expected a backbone with blocks of convolutions '
            'and batch norms, such as ResNet, ResNetTSM or ResNet2Plus1d, got '
            f'{type(pathway).__name__}. In a Recognizer3D, AIANeck puts the '
            'same attention behind a backbone that gives one feature map.'
        )
    return stages


def _block(module: nn.Module) -> Optional[Block]:
    """The ConvModules of a residual block, None for any other module."""
    if isinstance(module, InvertedResidual):
        convs = list(module.conv)
    elif getattr(getattr(module, 'conv1', None), 'with_norm', False):
        convs = [
            getattr(module, name)
            for name in ('conv1', 'conv2', 'conv3')
            if hasattr(module, name)
        ]
    else:
        return None
    # A convolution can be wrapped (temporal shift) or be two (CSN's ip).
    return [
        [m for m in conv.modules() if isinstance(m, ConvModule)][-1] for conv in convs
    ]


def _is_mobileone(module: nn.Module) -> bool:
    # mmpretrain, which it is from, need not be there.
    return any(cls.__name__ == 'MobileOne' for cls in type(module).__mro__)


def _pairs(stage: nn.Module) -> List[Block]:
    """MobileOne's blocks are pairs, a depthwise and a pointwise part."""
    parts = [m for m in stage.modules() if type(m).__name__ == 'MobileOneBlock']
    return [parts[i : i + 2] for i in range(0, len(parts), 2)]


def _stages_of_norms(network: nn.Module) -> List[List[Block]]:
    """Stages of a network of torchvision, timm or mmpretrain.

    A stage is what holds blocks directly.
    """
    blocks = [_norms(part) for part in _parts(network) if _is_block(part)]
    return ([blocks] if blocks else []) + [
        stage
        for part in _parts(network)
        if not _is_block(part)
        for stage in _stages_of_norms(part)
    ]


def _check_chains(network: nn.Module, stages: List[List[Block]]) -> None:
    """Raise a TypeError if the norms of a block do not follow one another.

    The second norm is then no place after the second convolution.
    """
    parallel = [
        name
        for name, m in network.named_modules()
        if isinstance(m, NORMS)
        and any(part.startswith(PARALLEL) for part in name.split('.'))
    ]
    long = [len(block) for stage in stages for block in stage if len(block) > 3]
    nested = [
        name
        for name, m in network.named_modules()
        if name
        and not isinstance(m, nn.Sequential)
        and any(isinstance(part, NORMS) for part in _parts(m))
        and any(map(_holds_block, _parts(m)))
    ]
    if parallel or long or nested:
        raise TypeError(
            'insert_plugins: expected blocks that are a chain of two or three '
            f'batch norms, got {type(network).__name__} with branches inside '
            f'of its blocks ({(parallel + nested + [""])[0] or max(long)}). '
            'Take a network without, e.g. a ResNet.'
        )


def _is_block(module: nn.Module) -> bool:
    """Whether this is a smallest part with more than one norm.

    A bare container is a stem, a stage or the inside of a block.
    """
    return (
        not isinstance(module, (nn.Sequential, nn.ModuleList))
        and len(_norms(module)) > 1
        and not any(map(_holds_block, _parts(module)))
    )


def _holds_block(module: nn.Module) -> bool:
    return _is_block(module) or any(map(_holds_block, _parts(module)))


def _norms(module: nn.Module) -> Block:
    """The batch norms on a module's main path, in order."""
    if isinstance(module, NORMS):
        return [module]
    return [norm for part in _parts(module) for norm in _norms(part)]


def _parts(module: nn.Module) -> List[nn.Module]:
    return [part for name, part in module.named_children() if name not in SIDE_PATHS]
