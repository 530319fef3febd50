import copy
import weakref
from functools import lru_cache, partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from aia_mmaction import AIAResNet, AIAResNetTSM, CinST
from aia_mmaction.ops.graph import bytes_saved
from aia_mmaction.ops.recompute import _NORMS, restore, save_input

from ..conftest import needs_numba

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


@lru_cache(maxsize=None)
def bytes_saved_of(backbone, attention, device):
    """Of a ResNet-50 at 8 x 224 x 224; ``''`` stands for the plain network."""
    options = dict(depth=50, pretrained=None, norm_eval=False)
    if backbone is AIAResNetTSM:
        options.update(num_segments=8, pretrained2d=False)
    plugins = [dict(cfg=dict(type=attention, num_segments=8))] if attention else []
    x = torch.randn(8, 3, 224, 224, device=device)
    model = backbone(plugins=plugins, **options).to(device)
    model.train()
    return bytes_saved(model(x), model)


@pytest.mark.slow
@each_device
@pytest.mark.parametrize('attention', ['CinST', 'STinC'])
@pytest.mark.parametrize('backbone', [AIAResNet, AIAResNetTSM])
def test_a_network_saves_little_more(backbone, attention, device):
    plain = bytes_saved_of(backbone, '', device)
    assert plain < bytes_saved_of(backbone, attention, device) <= 1.06 * plain


@each_device
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    'norm,shape', [(nn.BatchNorm2d, (4, 3, 5, 6)), (nn.BatchNorm3d, (2, 3, 4, 5, 6))]
)
def test_the_norm_again_gives_the_same(norm, shape, training, device):
    """On a CPU, to the bit."""
    norm = norm(3).train(training).to(device)
    x = norm(nn.Parameter(torch.randn(shape, device=device)) * 2)
    tensors, made = save_input(x)
    assert tensors[0] is not x
    statistics = copy.deepcopy(dict(norm.named_buffers()))
    tolerance = dict(rtol=0, atol=0) if device == 'cpu' else {}
    for again in (made.differentiable(tensors), restore(*made.host_norm(tensors))):
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


def test_an_input_changed_in_place_is_saved():
    x = nn.BatchNorm2d(3)(nn.Parameter(torch.randn(4, 3, 5, 6)))
    with torch.no_grad():
        x += 1
    assert save_input(x)[0][0] is x


@pytest.mark.parametrize(
    'norm',
    [
        nn.BatchNorm2d(3, affine=False),
        nn.BatchNorm2d(3).requires_grad_(False),
        nn.GroupNorm(1, 3),
        nn.ReLU(),
    ],
)
def test_other_inputs_are_saved(norm):
    x = norm(nn.Parameter(torch.randn(4, 3, 5, 6)))
    assert save_input(x)[0][0] is x


def test_a_change_of_what_was_saved_is_noticed():
    """As for every tensor that autograd saves."""
    norm, layer = nn.BatchNorm2d(3), CinST(num_segments=2)
    x = torch.randn(4, 3, 5, 6, requires_grad=True) * 1
    out = layer(norm(x))
    with torch.no_grad():
        x += 1
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        out.sum().backward()


class Block(nn.Module):
    """Where the paper inserts it, behind a norm and before the activation."""

    def __init__(self, impl='auto'):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.attention = CinST(num_segments=2, impl=impl)

    def forward(self, x):
        return self.attention(self.norm(self.conv(x)), nn.ReLU())


def gradients(block, x, call):
    leaf = x.clone().requires_grad_()
    out = call(block, leaf)
    return torch.autograd.grad(out.square().sum(), [leaf, *block.parameters()])


def offloaded(block, x):
    with torch.autograd.graph.save_on_cpu():
        return block(x)


@pytest.mark.parametrize(
    'call',
    [
        partial(checkpoint, use_reentrant=False),
        offloaded,
        lambda block, x: checkpoint(offloaded, block, x, use_reentrant=False),
    ],
    ids=['checkpoint', 'save_on_cpu', 'both'],
)
@pytest.mark.parametrize('impl', ['auto', 'reference'])
@pytest.mark.parametrize('training', [True, False])
def test_under_hooks_of_saved_tensors(call, impl, training):
    block, x = Block(impl).double().train(training), torch.randn(4, 3, 9, 7).double()
    expected = gradients(copy.deepcopy(block), x, lambda block, x: block(x))
    torch.testing.assert_close(gradients(block, x, call), expected)


def test_checkpoint_that_is_reentrant():
    block, x = Block().double(), torch.randn(4, 3, 9, 7).double()
    results = []
    for call in (lambda b, x: b(x), partial(checkpoint, use_reentrant=True)):
        twin, leaf = copy.deepcopy(block), x.clone().requires_grad_()
        call(twin, leaf).square().sum().backward()
        results.append([leaf.grad, *(p.grad for p in twin.parameters())])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(
    'impl, training',
    [
        ('reference', True),
        ('reference', False),
        ('fused', True),
        ('fused', False),
        pytest.param('numba', True, marks=needs_numba),
        pytest.param('numba', False, marks=needs_numba),
    ],
)
def test_nothing_outlives_the_backward_pass(impl, training):
    """While the loss is still there, e.g. through the optimizer's step."""
    assert_nothing_outlives(Block(impl).train(training))


def assert_nothing_outlives(block, device='cpu'):
    hidden = block.conv(torch.randn(4, 3, 9, 7, device=device))
    normed = block.norm(hidden)
    out = block.attention(normed)
    alive = [weakref.ref(t) for t in (hidden, normed, out)]
    loss = out.square().sum()
    del hidden, normed, out
    loss.backward()
    assert [tensor() for tensor in alive] == [None] * 3
