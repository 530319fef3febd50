from types import SimpleNamespace

import torch
from mmaction.registry import MODELS
from mmengine.registry import HOOKS
from torch import nn

from ..conftest import read_config, samples


def test_same_results_in_the_other_layout():
    """Forward and backward, with attention inside."""
    cfg = read_config('tsn_mobilenetv2_cinst_utd-mhad.py')
    cfg.model.backbone.pretrained = None
    (hook,) = (HOOKS.build(hook) for hook in cfg.custom_hooks)
    model = MODELS.build(cfg.model).double().train()
    model.cls_head.dropout = None
    x, layouts = torch.randn(1, 8, 3, 64, 64).double(), []
    model.backbone.layer2.register_forward_hook(
        lambda module, args, output: layouts.append(
            output.is_contiguous(memory_format=torch.channels_last)
        )
    )
    results = []
    for _ in range(2):
        model.zero_grad()
        loss = model(x, samples(1), mode='loss')['loss_cls']
        loss.backward()
        results.append([loss, *(p.grad.clone() for p in model.parameters())])
        hook.before_run(SimpleNamespace(model=model))
    assert layouts == [False, True]
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)


def test_3d_networks_stay_as_they_are():
    model = nn.Sequential(nn.Conv3d(3, 4, 3), nn.Conv2d(3, 4, 3))
    hook = HOOKS.build(dict(type='ChannelsLastHook'))
    hook.before_run(SimpleNamespace(model=model))
    assert model[0].weight.is_contiguous()
    assert model[1].weight.is_contiguous(memory_format=torch.channels_last)
