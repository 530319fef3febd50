"""How far a path may be from the reference, and how far it is."""

import copy
from typing import Dict, Optional, Sequence

import torch
from torch import Tensor, nn

from . import dispatch

# Bounds on ||got - expected|| / ||expected|| against the reference in float64,
# given the same (rounded) input and weights: of the output and the statistics,
# and of gradients. The latter depend on which value is the maximum. Of the
# 200,000 maxima over eight frames in layer1 one is now and then so close to
# the next that float32 takes that, which is 2e-4; in half precision many are.
TOLERANCES = {
    torch.float64: (1e-13, 1e-12),
    torch.float32: (2e-6, 1e-3),
    torch.float16: (2e-3, 1e-1),
    torch.bfloat16: (2e-2, 2e-1),
}


def deviations(
    layer: nn.Module,
    x: Tensor,
    grad: Tensor,
    activations: Sequence[Optional[nn.Module]] = (None, nn.ReLU(inplace=True)),
) -> Dict[str, float]:
    """The :func:`relative_errors` beyond :data:`TOLERANCES`, by itself and
    with a ReLU behind the layer, unless other activations are given.
    """
    value, gradient = TOLERANCES[x.dtype]
    bounds = dict(
        output=value, inference=value, x=gradient, parameters=gradient, buffers=value
    )
    found = {}
    for activation in activations:
        suffix = '' if activation is None else f' with {activation}'
        errors = relative_errors(layer, x, grad, activation)
        # "Not within", so that NaN is beyond.
        found.update({k + suffix: v for k, v in errors.items() if not v <= bounds[k]})
    return found


def relative_errors(
    layer: nn.Module, x: Tensor, grad: Tensor, activation: Optional[nn.Module] = None
) -> Dict[str, float]:
    """Errors of a layer against the reference in float64.

    Args:
        layer (nn.Module): An attention layer, in the mode to compare; neither
            its gradients nor its statistics are changed.
        x (Tensor): Its input. In half precision the layer runs under
            autocast, with its weights as they are.
        grad (Tensor): The gradient of its output, like ``x``.
        activation (nn.Module, optional): Behind the layer. Defaults to None.

    Returns:
        dict[str, float]: Relative errors of the ``output``, of the same as
        ``inference`` without gradients, of the gradients of ``x`` and of the
        ``parameters``, and of the ``buffers``, the running statistics.
    """
    layer = copy.deepcopy(layer)
    reference = copy.deepcopy(layer).double()
    half = x.dtype in (torch.float16, torch.bfloat16)
    with torch.autocast(x.device.type, x.dtype if half else None, half):
        got = _results(layer, x, grad, activation)
    with dispatch.impl('reference'):
        expected = _results(reference, x.double(), grad.double(), activation)
    return {
        name: ((got[name] - value).norm() / value.norm()).item()
        for name, value in expected.items()
    }


def _results(
    layer: nn.Module, x: Tensor, grad: Tensor, activation: Optional[nn.Module]
) -> Dict[str, Tensor]:
    x = x.detach().requires_grad_()
    out = layer(x, activation)
    parameters = list(layer.parameters())
    grad_x, *grads = torch.autograd.grad(out, [x, *parameters], grad)
    with torch.no_grad():
        inference = layer(x.clone(), activation)  # may work in place
    return {
        'output': out.detach(),
        'inference': inference,
        'x': grad_x,
        'parameters': torch.cat([g.flatten() for g in grads]),
        'buffers': torch.cat([b.flatten().double() for b in layer.buffers()]),
    }
