import copy
from functools import lru_cache

import pytest
import torch
from torch import nn

from aia_mmaction import AIAResNet, AIAResNetTSM, CinST
from aia_mmaction.ops.recompute import _NORMS, keep, restore

each_device = pytest.mark.parametrize(
    'device',
    [
        'cpu',
        pytest.param(
            'cuda',
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU'),
        ),
    ],
)


def bytes_kept(model, x):
    """Bytes that autograd keeps for the backward pass, without weights."""
    weights = {t.untyped_storage().data_ptr() for t in model.state_dict().values()}
    kept = {}

    def pack(t):
        storage = t.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        # The output keeps the graph alive, and with it the memory.
        out = model(x)
    del out
    return sum(kept.values())


@lru_cache(maxsize=None)
def bytes_kept_of(backbone, attention, device):
    """Of a ResNet-50 at 8 x 224 x 224; ``''`` stands for the plain network."""
    options = dict(depth=50, pretrained=None, norm_eval=False)
    if backbone is AIAResNetTSM:
        options.update(num_segments=8, pretrained2d=False)
    plugins = [dict(cfg=dict(type=attention, num_segments=8))] if attention else []
    x = torch.randn(8, 3, 224, 224, device=device)
    return bytes_kept(backbone(plugins=plugins, **options).to(device), x)


@pytest.mark.slow
@each_device
@pytest.mark.parametrize('attention', ['CinST', 'STinC'])
@pytest.mark.parametrize('backbone', [AIAResNet, AIAResNetTSM])
def test_a_network_keeps_little_more(backbone, attention, device):
    plain = bytes_kept_of(backbone, '', device)
    assert plain < bytes_kept_of(backbone, attention, device) <= 1.06 * plain


@each_device
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    'norm,shape', [(nn.BatchNorm2d, (4, 3, 5, 6)), (nn.BatchNorm3d, (2, 3, 4, 5, 6))]
)
def test_the_norm_again_gives_the_same(norm, shape, training, device):
    """On a CPU, to the bit."""
    norm = norm(3).train(training).to(device)
    x = norm(nn.Parameter(torch.randn(shape, device=device)) * 2)
    kept = keep(x)
    assert kept.tensors[0] is not x
    statistics = copy.deepcopy(dict(norm.named_buffers()))
    tolerance = dict(rtol=0, atol=0) if device == 'cpu' else {}
    for again in (
        kept.differentiable(kept.tensors),
        restore(*kept.affine(kept.tensors)),
    ):
        torch.testing.assert_close(again, x, **tolerance)
    for name, buffer in norm.named_buffers():
        assert torch.equal(buffer, statistics[name])


@pytest.mark.parametrize('node', _NORMS)
def test_pytorch_has_what_is_read_of_a_norm(node):
    """Of cuDNN's too, which no CPU runs."""
    assert {
        '_saved_input',
        '_saved_weight',
        '_saved_training',
        '_saved_result1',
        '_saved_result2',
        '_saved_running_mean',
        '_saved_running_var',
        _NORMS[node],
    } <= set(dir(getattr(torch._C._functions, node)))


def test_an_input_changed_in_place_is_kept():
    x = nn.BatchNorm2d(3)(nn.Parameter(torch.randn(4, 3, 5, 6)))
    with torch.no_grad():
        x += 1
    assert keep(x).tensors[0] is x


@pytest.mark.parametrize(
    'norm',
    [
        nn.BatchNorm2d(3, affine=False),
        nn.BatchNorm2d(3).requires_grad_(False),
        nn.GroupNorm(1, 3),
        nn.ReLU(),
    ],
)
def test_other_inputs_are_kept(norm):
    x = norm(nn.Parameter(torch.randn(4, 3, 5, 6)))
    assert keep(x).tensors[0] is x


def test_a_change_of_what_was_kept_is_noticed():
    """As for every tensor that autograd keeps."""
    norm, layer = nn.BatchNorm2d(3), CinST(num_segments=2)
    x = torch.randn(4, 3, 5, 6, requires_grad=True) * 1
    out = layer(norm(x))
    with torch.no_grad():
        x += 1
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        out.sum().backward()
