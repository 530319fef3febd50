"""Where MMAction2's backbones keep their blocks, and the norms in them.

All of it is read off the built network. Blocks are looked for below a stage,
not in it, because MMAction2 wraps them (temporal shift, non-local, TAM) and
whole stages (temporal pooling).
"""
from typing import Dict, List, Optional

from mmaction.models import C3D, MobileNetV2, ResNet3dSlowFast
from mmaction.models.backbones.mobilenet_v2 import InvertedResidual
from mmcv.cnn import ConvModule
from torch import nn

# The ConvModules of a block, in the order of their norms.
Block = List[ConvModule]


def find_pathways(backbone: nn.Module) -> Dict[str, nn.Module]:
    """The networks inside a backbone that have stages of their own."""
    if isinstance(backbone, ResNet3dSlowFast):
        return dict(slow=backbone.slow_path, fast=backbone.fast_path)
    return {'': backbone}


def find_stages(pathway: nn.Module) -> List[List[Block]]:
    """The blocks of every stage, in order.

    Raises:
        TypeError: If there are none.
    """
    if isinstance(pathway, C3D):  # five stages of plain convolutions
        stages = [[[conv] for name, conv in pathway.named_children()
                   if name.startswith(f'conv{i}')] for i in range(1, 6)]
    else:
        if isinstance(pathway, MobileNetV2):
            names = [n for n in pathway.layers if n.startswith('layer')]
        else:
            names = getattr(pathway, 'res_layers', ())
        stages = [[
            block for block in map(_block,
                                   getattr(pathway, name).modules()) if block
        ] for name in names]
    if not stages or not all(stages):
        raise TypeError(
            'insert_plugins: expected a backbone with blocks made of '
            'ConvModules, such as ResNet, ResNetTSM or ResNet2Plus1d, got '
            f'{type(pathway).__name__}.')
    return stages


def _block(module: nn.Module) -> Optional[Block]:
    """The ConvModules of a residual block, None for any other module."""
    if isinstance(module, InvertedResidual):
        convs = list(module.conv)
    elif isinstance(getattr(module, 'conv1', None), ConvModule):
        convs = [
            getattr(module, name) for name in ('conv1', 'conv2', 'conv3')
            if hasattr(module, name)
        ]
    else:
        return None
    # A convolution can be wrapped (temporal shift) or be two (CSN's ip).
    return [[m for m in conv.modules() if isinstance(m, ConvModule)][-1]
            for conv in convs]
