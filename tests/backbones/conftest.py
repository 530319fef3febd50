import pytest
import torch
from mmaction.registry import MODELS

from ..conftest import slow_but

R2PLUS1D = dict(
    depth=18,
    pretrained=None,
    pretrained2d=False,
    conv_cfg=dict(type='Conv2plus1d'),
    norm_cfg=dict(type='BN3d', requires_grad=True),
    conv1_kernel=(3, 7, 7),
    inflate=(1, 1, 1, 1),
    temporal_strides=(1, 2, 2, 2),
    zero_init_residual=False,
)

# name: (MMAction2's type, ours, arguments, shape of 2 clips of 4 frames)
NETWORKS = {
    'tsn': ('ResNet', 'AIAResNet', dict(depth=18), (8, 3, 32, 40)),
    'tsn50': ('ResNet', 'AIAResNet', dict(depth=50), (8, 3, 32, 40)),
    'tsm': (
        'ResNetTSM',
        'AIAResNetTSM',
        dict(depth=18, num_segments=4, pretrained2d=False),
        (8, 3, 32, 40),
    ),
    'r2plus1d': ('ResNet2Plus1d', 'AIAResNet2Plus1d', R2PLUS1D, (2, 3, 4, 32, 40)),
}


def build_plain(name, **kwargs):
    plain, _, args, _ = NETWORKS[name]
    torch.manual_seed(0)
    return MODELS.build({'type': plain, **args, **kwargs})


def build_aia(name, **kwargs):
    _, aia, args, _ = NETWORKS[name]
    if aia == 'AIAResNet':
        args = {'num_segments': 4, **args}
    torch.manual_seed(0)
    return MODELS.build({'type': aia, **args, **kwargs})


def make_input(name):
    return torch.randn(NETWORKS[name][3], generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=slow_but(['tsn', 'tsm'], NETWORKS))
def network(request):
    return request.param
