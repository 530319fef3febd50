"""Whether the Triton kernels are right on the machine that runs them.

They are compiled by another compiler for every GPU. So ``impl='auto'`` takes
them on a device and with a type only after they have agreed with the reference
there, on a small input.
"""

import warnings
from datetime import timedelta
from importlib import import_module
from threading import Thread
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .parameters import Parameters, unpack
from .parity import TOLERANCES
from .reference import LAYERS, GateAxes, attention
from .specification import KERNEL_GATES, Specification

EPS = 1e-5
# 240 values: as many different ones as bfloat16 holds exactly, so that every
# maximum is there once.
SHAPE = (2, 2, 3, 4, 5)
# How long a process waits for what others have found. They come to their first
# batch together, or do not use the layers at all.
TIMEOUT = timedelta(seconds=60)

_found: Dict[Tuple[torch.device, torch.dtype], Optional[str]] = {}


def why_not(x: Tensor) -> Optional[str]:
    """Why the kernels must not be taken for ``x`` of their own accord.

    They are tried once per process for a device and a type, never while a graph
    is traced or captured, and without random numbers. The processes of a
    distributed run come to one decision.

    Returns:
        str, optional: What is wrong; None if nothing is.
    """
    key = x.device, x.dtype
    if key in _found:
        return _found[key]
    if torch.compiler.is_compiling() or (
        x.is_cuda and torch.cuda.is_current_stream_capturing()
    ):
        return 'the kernels were not tried yet, which a batch without a graph does'
    reason = _agree(x, _in_a_thread(x))
    _found[key] = reason
    if reason is not None:
        warnings.warn(
            f'aia_mmaction: the Triton kernels for {x.dtype} do not work on '
            f"{x.device}: {reason}. impl='auto' does without them.",
            stacklevel=2,
        )
    return reason


def _in_a_thread(x: Tensor) -> Optional[str]:
    # Where no mode of the caller holds: autocast, inference mode, hooks of saved
    # tensors, a default device, a stream.
    reasons: List[Optional[str]] = []
    thread = Thread(target=lambda: reasons.append(_try(x.device, x.dtype)))
    thread.start()
    thread.join()
    return reasons[0]


def _try(device: torch.device, dtype: torch.dtype) -> Optional[str]:
    known = [axes for axes in LAYERS.values() if set(axes) <= KERNEL_GATES]
    try:
        with torch.cuda.device(device if device.type == 'cuda' else -1):
            for i, axes in enumerate(known):
                # Half of them as in training, half as in testing
                reason = _deviation(axes, i % 2 == 0, device, dtype)
                if reason is not None:
                    return reason
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    return None


def _deviation(
    axes: GateAxes, train: bool, device: torch.device, dtype: torch.dtype
) -> Optional[str]:
    numbers = torch.arange(240, device=device, dtype=torch.float64)
    x = ((numbers * 97 % 241 - 120) / 64).view(SHAPE).to(dtype)
    grad = (numbers * 53 % 241 / 128 - 1).view(SHAPE).to(dtype)
    spec = Specification(*axes, 0, EPS, batch_stats=train, relu=train)
    parameters = _parameters(len(axes.all()), train, device)
    got = _by_kernels(x, grad, parameters, spec)
    for name, expected in _by_reference(x, grad, parameters, spec).items():
        error = ((got[name] - expected).norm() / expected.norm()).item()
        bound = TOLERANCES[dtype][name.startswith('gradient')]
        # "Not within", so that NaN is beyond.
        if not error <= bound:
            return (
                f'expected the {name} of {axes.inner or "no"} inner and '
                f'{axes.outer} outer gates within {bound:.0e} of the '
                f'reference, got {error:.1e}'
            )
    return None


def _parameters(gates: int, train: bool, device: torch.device) -> Parameters:
    weight = (torch.arange(gates * 54, device=device) * 1.7).sin().float() / 3
    scale = torch.linspace(0.5, 1.5, gates, device=device)
    shift = torch.linspace(-0.2, 0.3, gates, device=device)
    stats = None if train else torch.stack([shift, scale], 1)
    return Parameters(weight.view(gates, 2, 3, 3, 3), scale, shift, stats)


def _by_kernels(
    x: Tensor, grad: Tensor, parameters: Parameters, spec: Specification
) -> Dict[str, Tensor]:
    triton = import_module(f'{__package__}.triton')
    out, stats, saved = triton.forward(x, parameters, spec, True)
    used = parameters._replace(stats=stats)
    grads = triton.backward(grad, x, None, used, spec, saved)
    inplace = x.clone()
    triton.forward_inplace(inplace, parameters, spec)
    return dict(output=out, inference=inplace, **_named(grads))


def _by_reference(
    x: Tensor, grad: Tensor, parameters: Parameters, spec: Specification
) -> Dict[str, Tensor]:
    inputs = [t.double().requires_grad_() for t in (x, *parameters[:3])]
    exact_x, weight, scale, shift = inputs
    stats = None if parameters.stats is None else parameters.stats.double()
    gates = unpack(Parameters(weight, scale, shift, stats), spec)
    out = attention(exact_x, spec.axes, gates)
    if spec.relu:
        out = out.relu()
    grads = torch.autograd.grad(out, inputs, grad.double())
    return dict(output=out, inference=out, **_named(grads))


def _named(grads: Sequence[Tensor]) -> Dict[str, Tensor]:
    inputs = ('x', 'weight', 'scale', 'shift')
    return {f'gradient of {name}': grad for name, grad in zip(inputs, grads)}


def _agree(x: Tensor, reason: Optional[str]) -> Optional[str]:
    """What any process of a distributed run has found."""
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return reason
    # No collective operation: a process that runs the layers alone would wait
    # for ever.
    get_store = getattr(distributed.distributed_c10d, '_get_default_store', None)
    if get_store is None:
        return reason
    store = get_store()
    name = f'aia_mmaction/{x.device.type}/{x.dtype}'
    ranks = range(distributed.get_world_size())
    store.set(f'{name}/{distributed.get_rank()}', reason or '')
    keys = [f'{name}/{rank}' for rank in ranks]
    try:
        store.wait(keys, TIMEOUT)
    except RuntimeError:  # some do not use the layers
        return reason
    found = [store.get(key).decode() for key in keys]
    return reason or next((r for r in found if r), None)
