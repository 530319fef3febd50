from types import SimpleNamespace

import torch
from mmaction.registry import MODELS
from mmengine.registry import HOOKS

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
