import copy

import pytest
import torch
from torch import nn

from aia_mmaction import AIAResNet, AIAResNetTSM, CinST
from aia_mmaction.ops.recompute import keep, restore


def bytes_kept(model, x):
    """Bytes that autograd keeps for the backward pass, without weights."""
    weights = {
        t.untyped_storage().data_ptr()
        for t in model.state_dict().values()
    }
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


@pytest.mark.parametrize('attention', ['CinST', 'STinC'])
@pytest.mark.parametrize('backbone', [AIAResNet, AIAResNetTSM])
def test_a_network_keeps_little_more(backbone, attention):
    options = dict(depth=50, pretrained=None, norm_eval=False)
    if backbone is AIAResNetTSM:
        options.update(num_segments=8, pretrained2d=False)
    cfg = dict(type=attention, num_segments=8)
    x = torch.randn(8, 3, 224, 224)
    plain, attended = (bytes_kept(backbone(plugins=plugins, **options), x)
                       for plugins in ([], [dict(cfg=cfg)]))
    assert attended <= 1.06 * plain


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('norm,shape', [(nn.BatchNorm2d, (4, 3, 5, 6)),
                                        (nn.BatchNorm3d, (2, 3, 4, 5, 6))])
def test_the_norm_again_gives_the_same_bits(norm, shape, training):
    norm = norm(3).train(training)
    x = norm(nn.Parameter(torch.randn(shape)) * 2)
    kept = keep(x)
    assert kept.tensors[0] is not x
    statistics = copy.deepcopy(dict(norm.named_buffers()))
    assert torch.equal(kept.differentiable(kept.tensors), x)
    assert torch.equal(restore(*kept.affine(kept.tensors)), x)
    for name, buffer in norm.named_buffers():
        assert torch.equal(buffer, statistics[name])


def test_an_input_changed_in_place_is_kept():
    x = nn.BatchNorm2d(3)(nn.Parameter(torch.randn(4, 3, 5, 6)))
    with torch.no_grad():
        x += 1
    assert keep(x).tensors[0] is x


@pytest.mark.parametrize('norm', [
    nn.BatchNorm2d(3, affine=False),
    nn.BatchNorm2d(3).requires_grad_(False),
    nn.GroupNorm(1, 3),
    nn.ReLU()
])
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
