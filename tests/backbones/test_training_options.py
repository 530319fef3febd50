"""What MMAction2's backbones can do, they do with attention inside."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.runner import turn_on_activation_checkpointing
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from aia_mmaction import insert_plugins
from aia_mmaction.plugins import attention_layers

from ..conftest import exhaustive_but
from .conftest import build_aia, build_plain, make_input
from .test_plugins import CINST, is_aia


def torchvision_layout(model):
    """The state dict of a plain 2-D ResNet under torchvision's names."""
    state = {}
    for key, value in model.state_dict().items():
        key = key.replace('.net.', '.')
        if 'downsample' in key:
            key = key.replace('.conv.', '.0.').replace('.bn.', '.1.')
        elif '.bn.' in key:
            prefix, _, rest = key.rpartition('.bn.')
            key = f'{prefix.replace("conv", "bn")}.{rest}'
        else:
            key = key.replace('.conv.', '.')
        state[key] = value
    assert 'bn1.running_mean' in state and 'layer1.0.bn2.weight' in state
    return {**state, 'fc.weight': torch.zeros(1), 'fc.bias': torch.zeros(1)}


@pytest.mark.parametrize('name', ['tsn', 'tsn50', 'tsm'])
def test_imagenet_weights_from_a_file(name, tmp_path):
    plain = build_plain(name)
    for parameter in plain.parameters():
        nn.init.normal_(parameter)
    for key, buffer in plain.named_buffers():
        if 'running' in key:
            nn.init.uniform_(buffer, 1, 2)
    path = tmp_path / 'resnet.pth'
    torch.save(torchvision_layout(plain), path)
    kwargs = dict(pretrained2d=True) if name == 'tsm' else {}

    aia = build_aia(name, pretrained=str(path), **kwargs)
    attention = {k: v.clone() for k, v in aia.state_dict().items() if is_aia(k)}
    aia.init_weights()

    state = aia.state_dict()
    for key, value in plain.state_dict().items():
        assert torch.equal(state[key], value), key
    for key, value in attention.items():
        assert torch.equal(state[key], value), key


def test_init_weights_keeps_the_attention_s_own(network):
    model = build_aia(network)
    if network == 'r2plus1d':
        # A copy from before the insertion: the same must hold for an object.
        model = insert_plugins(build_plain(network), CINST)
    model.init_weights()
    outer = torch.stack(
        [
            getattr(layer, f'gate_{axis}').conv.weight
            for _, layer in attention_layers(model)
            for axis in 'thw'
        ]
    )
    # Xavier-normal, where MMAction2's ResNet3d would leave Kaiming's 0.27.
    assert outer.std().item() == pytest.approx((2 / 81) ** 0.5, rel=0.1)


@pytest.mark.slow
def test_init_weights_keeps_loaded_attention(tmp_path):
    trained = build_aia('r2plus1d')
    for _, layer in attention_layers(trained):
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
    path = tmp_path / 'aia.pth'
    torch.save(trained.state_dict(), path)
    model = build_aia('r2plus1d', pretrained=str(path))
    model.init_weights()
    for key, value in trained.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_init_weights_keeps_the_attention_that_a_checkpoint_has(tmp_path):
    """Of a checkpoint with attention in one stage, for a network with more."""
    state = build_aia('r2plus1d').state_dict()
    loaded = {k: torch.ones_like(v) for k, v in state.items() if is_aia(k)}
    loaded = {k: v for k, v in loaded.items() if k.startswith('layer1')}
    plain = {k: v for k, v in state.items() if not is_aia(k)}
    torch.save({**plain, **loaded}, tmp_path / 'part.pth')
    model = build_aia('r2plus1d', pretrained=str(tmp_path / 'part.pth'))
    initial = copy.deepcopy(model.state_dict())
    model.init_weights()
    for key, value in model.state_dict().items():
        if is_aia(key):
            assert torch.equal(value, loaded.get(key, initial[key])), key


@pytest.mark.parametrize('name', exhaustive_but(['tsm'], ['tsn50', 'tsm', 'r2plus1d']))
def test_with_cp(name):
    x = make_input(name)
    grads = []
    for with_cp in (False, True):
        # MMAction2's 2-D BasicBlock has no with_cp.
        model = build_aia(name, with_cp=with_cp, depth=18 if name == 'r2plus1d' else 50)
        model(x.clone().requires_grad_()).square().mean().backward()
        grads.append({n: p.grad for n, p in model.named_parameters()})
    assert any(is_aia(n) for n in grads[0])
    for key, grad in grads[0].items():
        torch.testing.assert_close(grads[1][key], grad)


def test_frozen_stages(network):
    model = build_aia(network, frozen_stages=2).train()
    model(make_input(network)).sum().backward()
    for name, parameter in model.named_parameters():
        frozen = name.split('.')[0] in ('layer1', 'layer2') or (
            name.startswith('conv1')
        )
        assert parameter.requires_grad != frozen, name
        assert (parameter.grad is None) == frozen, name
    for name, layer in attention_layers(model):
        frozen = name.split('.')[0] in ('layer1', 'layer2')
        assert layer.gate_c.norm.training != frozen
        moved = bool(layer.gate_c.norm.running_mean.any())
        assert moved != frozen, name


def check_that_only_new_norms_learn(model, x):
    """Those of the attention, but in layer1, which is frozen."""
    gates = {
        gate.norm: name
        for name, layer in attention_layers(model)
        for gate in layer.children()
    }
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    model.train()
    model(x).mean().backward()
    assert len(norms) > len(gates) > 0
    for norm in norms:
        learns = norm in gates and not gates[norm].startswith('layer1')
        assert norm.training == learns
        if norm in gates:
            assert bool(norm.running_mean.any()) == learns
            assert norm.weight.requires_grad == learns
            assert (norm.weight.grad is not None) == learns
    model.eval()
    assert not any(norm.training for norm in norms)


def test_norm_eval(network):
    model = build_aia(network, norm_eval=True, frozen_stages=1)
    check_that_only_new_norms_learn(model, make_input(network))


def test_frozen_norms_of_csn():
    model = MODELS.build(
        dict(
            type='AIAResNet3dCSN',
            depth=50,
            pretrained=None,
            norm_eval=True,
            bn_frozen=True,
            frozen_stages=1,
        )
    )
    check_that_only_new_norms_learn(model, torch.randn(2, 3, 4, 32, 32))
    frozen = [m for m in model.modules() if isinstance(m, nn.BatchNorm3d)]
    # as before: those of the network, each of them
    of_gates = {
        g.norm for _, layer in attention_layers(model) for g in layer.children()
    }
    assert not any(m.weight.requires_grad for m in frozen if m not in of_gates)


@pytest.mark.parametrize('name', ['tsn', 'tsm'])
def test_partial_bn_leaves_the_attention_alone(name):
    model = build_aia(name, partial_bn=True).train()
    for _, layer in attention_layers(model):
        for gate in layer.children():
            assert gate.norm.training and gate.norm.weight.requires_grad
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms[0].training and not any(m.training for m in norms[1:])


@pytest.mark.parametrize('name', ['tsn', 'tsm', 'r2plus1d'])
def test_tsm_optim_wrapper_constructor(name):
    recognizer, head = {
        'tsn': ('Recognizer2D', dict(type='TSNHead')),
        'tsm': ('Recognizer2D', dict(type='TSMHead', num_segments=4)),
        'r2plus1d': ('Recognizer3D', dict(type='I3DHead')),
    }[name]
    model = MODELS.build(
        dict(
            type=recognizer,
            backbone=dict(type='AIAResNet', depth=18),
            cls_head=dict(num_classes=3, in_channels=512, **head),
        )
    )
    model.backbone = build_aia(name)
    wrapper = build_optim_wrapper(
        model,
        ConfigDict(
            constructor='TSMOptimWrapperConstructor',
            paramwise_cfg=dict(fc_lr5=True),
            optimizer=dict(type='SGD', lr=0.01, weight_decay=1e-4),
        ),
    )
    groups = [
        (id(p), group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for p in group['params']
    ]
    count = 0
    for key, parameter in model.named_parameters():
        if is_aia(key):
            ((_, lr, decay),) = [g for g in groups if g[0] == id(parameter)]
            assert lr == 0.01
            # norm parameters are not decayed
            assert decay == (1e-4 if key.endswith('conv.weight') else 0)
            count += 1
    assert count == 8 * 12


@pytest.mark.parametrize('name', ['tsn', 'tsm'])
def test_channels_last(name):
    """Of all weights; those of the gates have five axes and stay as they are."""
    model, x = build_aia(name).eval(), make_input(name)
    expected, state = model(x), copy.deepcopy(model.state_dict())
    model.to(memory_format=torch.channels_last)
    assert model.conv1.conv.weight.is_contiguous(memory_format=torch.channels_last)
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
    x = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x), expected)
    model.to(torch.float64, memory_format=torch.channels_last)
    torch.testing.assert_close(model(x.double()).float(), expected)


def test_max_testing_views():
    model = MODELS.build(
        dict(
            type='Recognizer2D',
            backbone=dict(type='AIAResNet', depth=18, num_segments=4),
            cls_head=dict(type='TSNHead', num_classes=3, in_channels=512),
        )
    )
    model.eval()
    clips = torch.randn(1, 3 * 4, 3, 32, 32)
    with torch.no_grad():
        expected, _ = model.extract_feat(clips, test_mode=True)
        model.test_cfg = ConfigDict(max_testing_views=4)
        got, _ = model.extract_feat(clips, test_mode=True)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize('name', exhaustive_but(['tsm'], ['tsn50', 'tsm', 'r2plus1d']))
def test_activation_checkpointing_of_mmengine(name):
    """``activation_checkpointing = ['backbone.layer1', ...]`` in a config."""
    model = build_aia(name, norm_eval=False).double().train()
    twin = copy.deepcopy(model)
    turn_on_activation_checkpointing(twin, ['layer1', 'layer3.0'])
    x = make_input(name).double()
    for network in (model, twin):
        network(x).square().mean().backward()
    for (key, parameter), other in zip(model.named_parameters(), twin.parameters()):
        torch.testing.assert_close(other.grad, parameter.grad, msg=key)


def test_a_deleted_model_is_gone_at_once():
    """And its memory with it, not at the next garbage collection."""
    model = build_aia('tsm')
    parameter = weakref.ref(next(model.parameters()))
    gc.disable()
    try:
        del model
        assert parameter() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    'how', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies_are_on_their_own(how):
    model = build_aia('tsn')
    other = how(model)
    del model
    gc.collect()
    assert other.train(False) is other and not other.training
    assert other.get('num_segments') == 4
    other.init_weights()
