"""MMAction2's backbones with `plugins=` that need nothing else."""

from mmaction.models.backbones.c2d import C2D
from mmaction.models.backbones.c3d import C3D
from mmaction.models.backbones.mobilenet_v2 import MobileNetV2
from mmaction.models.backbones.mobilenet_v2_tsm import MobileNetV2TSM
from mmaction.models.backbones.resnet import ResNet
from mmaction.models.backbones.resnet2plus1d import ResNet2Plus1d
from mmaction.models.backbones.resnet3d import ResNet3d
from mmaction.models.backbones.resnet3d_csn import ResNet3dCSN
from mmaction.models.backbones.resnet3d_slowfast import ResNet3dSlowFast
from mmaction.models.backbones.resnet3d_slowonly import ResNet3dSlowOnly
from mmaction.models.backbones.resnet_tin import ResNetTIN
from mmaction.models.backbones.tanet import TANet
from mmaction.models.backbones.x3d import X3D
from mmaction.registry import MODELS

from .base import AIABackbone, AIAFrameBackbone


@MODELS.register_module()
class AIAC2D(AIAFrameBackbone, C2D):
    """MMAction2's ``C2D`` with attention.

    Args:
        num_segments (int): Frames per clip. Defaults to 8.
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``C2D``.
    """


@MODELS.register_module()
class AIAC3D(AIABackbone, C3D):
    """MMAction2's ``C3D`` with attention.

    Every convolution is a block of its own, in five stages.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``C3D``.
    """


@MODELS.register_module()
class AIAMobileNetV2(AIAFrameBackbone, MobileNetV2):
    """MMAction2's ``MobileNetV2`` with attention.

    Args:
        num_segments (int): Frames per clip. Defaults to 8.
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``MobileNetV2``.
    """


@MODELS.register_module()
class AIAMobileNetV2TSM(AIABackbone, MobileNetV2TSM):
    """MMAction2's ``MobileNetV2TSM`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``MobileNetV2TSM``.
    """


@MODELS.register_module()
class AIAResNet(AIAFrameBackbone, ResNet):
    """MMAction2's ``ResNet`` (TSN) with attention.

    Args:
        num_segments (int): Frames per clip. Defaults to 8.
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNet``.
    """


@MODELS.register_module()
class AIAResNet2Plus1d(AIABackbone, ResNet2Plus1d):
    """MMAction2's ``ResNet2Plus1d`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNet2Plus1d``.
    """


@MODELS.register_module()
class AIAResNet3d(AIABackbone, ResNet3d):
    """MMAction2's ``ResNet3d`` (I3D) with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNet3d``.
    """


@MODELS.register_module()
class AIAResNet3dCSN(AIABackbone, ResNet3dCSN):
    """MMAction2's ``ResNet3dCSN`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNet3dCSN``.
    """


@MODELS.register_module()
class AIAResNet3dSlowFast(AIABackbone, ResNet3dSlowFast):
    """MMAction2's ``ResNet3dSlowFast`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNet3dSlowFast``.
    """


@MODELS.register_module()
class AIAResNet3dSlowOnly(AIABackbone, ResNet3dSlowOnly):
    """MMAction2's ``ResNet3dSlowOnly`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNet3dSlowOnly``.
    """


@MODELS.register_module()
class AIAResNetTIN(AIABackbone, ResNetTIN):
    """MMAction2's ``ResNetTIN`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``ResNetTIN``.
    """


@MODELS.register_module()
class AIATANet(AIABackbone, TANet):
    """MMAction2's ``TANet`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``TANet``.
    """


@MODELS.register_module()
class AIAX3D(AIABackbone, X3D):
    """MMAction2's ``X3D`` with attention.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``X3D``.
    """
