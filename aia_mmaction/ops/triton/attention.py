"""The attention on CUDA, with the kernels of :mod:`.kernels`.

The same functions as in :mod:`..fused`. What is as large as ``x`` is read and
written as seldom as its dependencies allow; the names and shapes of what lies
between are explained in :mod:`.kernels`:

- Forward, each gate group reads ``x`` once for all its pools, and ``x`` times
  the inner gates is computed on the fly; then ``x`` is read and the output
  written.
- Backward, the same reads of ``x`` make the pools again, now with the argmax,
  and the outer one reads ``grad`` as well for the sums of
  ``grad * x``; nested layers read ``x`` once more for their inner gates; then
  ``grad`` is read and the gradient of ``x`` written.

float64 is not supported: everything is computed in float32.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from ..parameters import Parameters, Saved
from ..recompute import restore
from ..specification import Specification
from ..sync import combine_stats, mean_over_all
from . import kernels
from .plan import Group, Plan, plan_of, power_of_two


def forward(
    x: Tensor, parameters: Parameters, spec: Specification, backward: bool
) -> Tuple[Tensor, Tensor, Saved]:
    """As :func:`..fused.forward`, for float16, bfloat16 and float32.

    Nothing is saved for :func:`backward`, which computes it again.
    """
    out = torch.empty_like(x)
    stats = _forward(x, out, parameters, spec)
    return out, stats, new_saved(x, spec, backward)


def forward_inplace(x: Tensor, parameters: Parameters, spec: Specification) -> Tensor:
    """As :func:`..fused.forward_inplace`."""
    return _forward(x, x, parameters, spec)


def backward(
    grad: Tensor,
    x: Tensor,
    host_norm: Optional[Tensor],
    parameters: Parameters,
    spec: Specification,
    saved: Saved,
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """As :func:`..fused.backward`, whatever was saved."""
    assert parameters.stats is not None
    x = restore(x, host_norm)
    grad_x = torch.empty_like(x)
    # The kernels know one layout of all that has the shape of the output.
    if grad.dtype != x.dtype or grad.stride() != grad_x.stride():
        grad = torch.empty_like(x).copy_(grad)
    with _current(x.device):
        plan = _plan(x, grad_x)
        weights = _weights(parameters)._replace(stats=parameters.stats.float())
        groups = plan.groups(spec.axes)
        made: List[_Gates] = []
        gates = None
        for group in groups:
            pooled, argmax = _pool(
                plan,
                group,
                x,
                gates,
                grad if group is groups[-1] else None,
                relu=spec.relu,
                with_argmax=True,
            )
            given = weights.of(group)
            gates, response = _gates(
                plan, group, pooled, given, spec, with_response=True
            )
            made.append(_Gates(group, given, pooled, argmax, response, gates))

        # The sums of grad * x lie behind those of x.
        products = made[-1].pooled[2]
        backs: List[_Back] = []
        grads = _new_grads(groups, products)
        for each in reversed(made):
            if backs:
                products = _unpooled_products(plan, each.group, x, backs[-1])
            of_pools = _grad_gates(plan, each, products, grads.of(each.group), spec)
            backs.append(_Back(each.group, of_pools, each.argmax, each.gates))
        _grad_x(plan, groups[-1], grad, x, backs, grad_x, spec.relu)
    return (
        grad_x,
        # Sums over the programs, [G, rows, 54] -> [G, 54]
        grads.weight.sum(1).view_as(parameters.weight).to(parameters.weight.dtype),
        grads.scale.to(parameters.scale.dtype),
        grads.shift.to(parameters.shift.dtype),
    )


def new_saved(x: Tensor, spec: Specification, backward: bool) -> Saved:
    """Nothing, in two empty tensors."""
    return Saved(x.new_empty(0, dtype=torch.float32), x.new_empty(0, dtype=torch.int32))


def _forward(
    x: Tensor, out: Tensor, parameters: Parameters, spec: Specification
) -> Tensor:
    plan = _plan(x, out)
    # A copy of given statistics, or room for those of the batch
    stats = x.new_empty(len(spec.axes.all()), 2, dtype=torch.float32)
    if parameters.stats is not None:
        stats.copy_(parameters.stats)
    weights = _weights(parameters)._replace(stats=stats)
    gates = None
    with _current(x.device):
        for group in plan.groups(spec.axes):
            pooled, _ = _pool(plan, group, x, gates)
            given = weights.of(group)
            gates, _ = _gates(plan, group, pooled, given, spec, spec.batch_stats)
        assert gates is not None  # a layer has an outer group
        _weigh(plan, group, x, gates, out, spec.relu)
    return stats


class _Weights(NamedTuple):
    """Parameters of gates, or their gradients; float32."""

    weight: Tensor  # [G, 2, 3, 3, 3]; gradients [G, rows, 54]
    scale: Tensor  # [G]
    shift: Tensor  # [G]
    stats: Optional[Tensor] = None  # [G, 2]

    def of(self, group: Group) -> '_Weights':
        """Of the gates of one group."""
        if group.gates == slice(0, len(self.scale)):
            return self
        weight, scale, shift = (t[group.gates] for t in self[:3])
        stats = None if self.stats is None else self.stats[group.gates]
        return _Weights(weight, scale, shift, stats)


class _Gates(NamedTuple):
    group: Group
    weights: _Weights
    pooled: Tensor  # [planes, length or more]
    argmax: Optional[Tensor]  # [length or more]
    response: Optional[Tensor]  # [length], convolved, not yet normalised
    gates: Tensor  # [length]


class _Back(NamedTuple):
    group: Group
    grads: Tensor  # [2, length]
    argmax: Optional[Tensor]
    gates: Tensor


def _plan(x: Tensor, y: Tensor) -> Plan:
    if x.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise TypeError(
            'expected float16, bfloat16 or float32, got '
            f'{x.dtype}; use another path for it.'
        )
    return plan_of(tuple(x.shape), x.stride(), y.stride())


def _weights(parameters: Parameters) -> _Weights:
    return _Weights(*(t.float().contiguous() for t in parameters[:3]))


def _new_grads(groups: Tuple[Group, ...], like: Tensor) -> _Weights:
    gates, rows = groups[-1].gates.stop, groups[-1].rows
    return _Weights(
        # Zeros, as the gates have different numbers of programs
        like.new_zeros(gates, rows, 54),
        like.new_empty(gates),
        like.new_empty(gates),
    )


# ---------------------------------------------------------------------------
# Launches
# ---------------------------------------------------------------------------
def _launch(kernel: Any, programs: int, **arguments: Any) -> None:
    kernel[(programs,)](**arguments)


def _current(device: torch.device) -> 'AbstractContextManager[Any]':
    """Triton launches on the current device, not on that of its arguments."""
    if device.type != 'cuda' or device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(device)


def _reduce(
    plan: Plan,
    group: Group,
    planes: int,
    x: Tensor,
    grad: Optional[Tensor] = None,
    gates: Optional[Tensor] = None,
    back: Optional[_Back] = None,
    relu: bool = False,
    with_argmax: bool = False,
) -> Tuple[Tensor, Optional[Tensor]]:
    """Reduce ``x`` over the axes of a group, with ``back`` by ``UNPOOL``."""
    launch, length, merges = plan.reductions[group.axes]
    out = x.new_empty(planes, length, dtype=torch.float32)
    argmax = x.new_empty(length, dtype=torch.int32) if with_argmax else None
    _launch(
        kernels.reduce_c_kernel if group.axes == 'C' else kernels.reduce_thw_kernel,
        launch.programs,
        x=x,
        grad=grad,
        gates=gates,
        grads=back.grads if back else None,
        argmax=back.argmax if back else None,
        grads_length=back.group.length if back else 0,
        out=out,
        out_argmax=argmax,
        UNPOOL=back is not None,
        RELU=relu,
        **launch.arguments,
    )
    for merge in merges:
        _launch(
            kernels.merge_kernel,
            merge.programs,
            out=out,
            argmax=argmax,
            PLANES=planes,
            **merge.arguments,
        )
    return out, argmax


def _pool(
    plan: Plan,
    group: Group,
    x: Tensor,
    gates: Optional[Tensor],
    grad: Optional[Tensor] = None,
    relu: bool = False,
    with_argmax: bool = False,
) -> Tuple[Tensor, Optional[Tensor]]:
    """Maximum and sum of ``x`` times the inner gates; with ``grad``, also the
    sum of ``grad * x``, for ``relu`` where ``x`` is positive.
    """
    planes = 2 if grad is None else 3
    return _reduce(
        plan, group, planes, x, grad, gates, relu=relu, with_argmax=with_argmax
    )


def _unpooled_products(plan: Plan, group: Group, x: Tensor, back: _Back) -> Tensor:
    """Sum of ``grad_z * x``."""
    return _reduce(plan, group, 1, x, back=back)[0][0]


def _gates(
    plan: Plan,
    group: Group,
    pooled: Tensor,
    weights: _Weights,
    spec: Specification,
    batch_stats: bool = False,
    with_response: bool = False,
) -> Tuple[Tensor, Optional[Tensor]]:
    """The gates of a group, and if asked for what they were made of.

    With ``batch_stats``, those of the weights are filled.
    """
    gates = pooled.new_empty(group.length)
    response, moments = None, None
    if batch_stats or with_response:
        response = torch.empty_like(gates)
    if batch_stats:
        moments = pooled.new_empty(len(group) * group.rows, 3)
    programs, arguments = group.launch
    _launch(
        kernels.conv_kernel,
        programs,
        pooled=pooled,
        **weights._asdict(),
        moments=moments,
        response=response,
        gates=gates,
        length=pooled.stride(0),
        eps=spec.eps,
        **arguments,
    )
    if moments is not None and spec.group:
        assert weights.stats is not None
        weights.stats.copy_(_stats_of_all(plan, group, moments, spec.group))
        return _gates(plan, group, pooled, weights, spec, with_response=with_response)
    if batch_stats:
        _launch(
            kernels.norm_kernel,
            programs,
            response=response,
            moments=moments,
            scale=weights.scale,
            shift=weights.shift,
            stats=weights.stats,
            gates=gates,
            ROWS=power_of_two(group.rows),
            eps=spec.eps,
            **arguments,
        )
    return gates, response


def _stats_of_all(plan: Plan, group: Group, moments: Tensor, sync: str) -> Tensor:
    """Mean and variance ``[G, 2]`` over processes, from the moments of the
    programs ``[G * rows, 3]``: count, mean and sum of squared deviations.
    """
    counts = _counts(plan, group, moments)
    count, mean, squares = moments.view(len(group), group.rows, 3).unbind(-1)
    # Gates have different numbers of programs.
    programs = counts.new_tensor(group.programs_of)[:, None]
    there = torch.arange(group.rows, device=moments.device) < programs
    count, mean = count.where(there, 0), mean.where(there, 0)
    centre = (count * mean).sum(1) / counts
    away = (mean - centre[:, None]) ** 2 * count
    variance = (squares.where(there, 0) + away).sum(1) / counts
    return combine_stats(torch.stack([centre, variance], 1), counts, sync)


def _counts(plan: Plan, group: Group, like: Tensor) -> Tensor:
    """Values that each norm sees."""
    sizes = dict(zip('NCTHW', plan.shape))
    total = math.prod(plan.shape)
    return like.new_tensor([total // sizes[axis] for axis in group.axes])


def _weigh(
    plan: Plan, group: Group, x: Tensor, gates: Tensor, out: Tensor, relu: bool
) -> None:
    programs, arguments = plan.product
    _launch(
        kernels.weigh_kernel,
        programs,
        x=x,
        gates=gates,
        out=out,
        OUTER_C=group.axes == 'C',
        RELU=relu,
        **arguments,
    )


def _grad_gates(
    plan: Plan, made: _Gates, products: Tensor, grads: _Weights, spec: Specification
) -> Tensor:
    """Gradients of the pools ``[2, length]``, from the sums of ``gradient * x``.

    Those of the parameters are filled in, of the kernels by program.
    """
    group, weights = made.group, made.weights
    assert made.response is not None
    grad_norm = torch.empty_like(made.response)
    sums = grad_norm.new_empty(len(group) * group.rows, 2)
    programs, arguments = group.launch
    _launch(
        kernels.grad_gate_kernel,
        programs,
        products=products,
        response=made.response,
        scale=weights.scale,
        shift=weights.shift,
        stats=weights.stats,
        grad_norm=grad_norm,
        sums=sums,
        eps=spec.eps,
        **arguments,
    )
    own = None
    if spec.batch_stats and spec.group:
        own = _share_sums(plan, group, sums, spec.group)
    of_pools = grad_norm.new_empty(2, group.length)
    _launch(
        kernels.grad_conv_kernel,
        programs,
        grad_norm=grad_norm,
        sums=sums,
        response=made.response,
        pooled=made.pooled,
        weight=weights.weight,
        scale=weights.scale,
        stats=weights.stats,
        grads=of_pools,
        grad_weight=grads.weight,
        grad_scale=grads.scale,
        grad_shift=grads.shift,
        pooled_length=made.pooled.stride(0),
        length=group.length,
        BATCH_STATS=spec.batch_stats,
        ROWS=power_of_two(group.rows),
        eps=spec.eps,
        **arguments,
    )
    if own is not None:
        grads.shift.copy_(own[:, 0])
        grads.scale.copy_(own[:, 1])
    return of_pools


def _share_sums(plan: Plan, group: Group, sums: Tensor, sync: str) -> Tensor:
    """Have the next kernel divide the sums of all processes by their count.

    Returns:
        Tensor: The sums of this process ``[G, 2]``: the gradients of shift and scale.
    """
    counts = _counts(plan, group, sums)
    programs = counts.new_tensor(group.programs_of)[:, None]
    there = torch.arange(group.rows, device=sums.device) < programs
    by_gate = sums.view(len(group), group.rows, 2)  # alone, times the normed
    own = by_gate.where(there[..., None], 0).sum(1)
    by_gate.zero_()
    by_gate[:, 0] = mean_over_all(own, counts, sync) * counts[:, None]
    return own


def _grad_x(
    plan: Plan,
    outer: Group,
    grad: Tensor,
    x: Tensor,
    backs: List[_Back],
    grad_x: Tensor,
    relu: bool,
) -> None:
    of_gates: Dict[str, Any] = {}
    found = {back.group.axes: back for back in backs}
    for axes, suffix in (('C', 'c'), ('THW', 'thw')):
        back = found.get(axes)
        of_gates[f'gates_{suffix}'] = back.gates if back else None
        of_gates[f'grads_{suffix}'] = back.grads if back else None
        of_gates[f'argmax_{suffix}'] = back.argmax if back else None
        of_gates[f'length_{suffix}'] = back.group.length if back else 0
    programs, arguments = plan.product
    _launch(
        kernels.grad_x_kernel,
        programs,
        grad=grad,
        x=x,
        out=grad_x,
        OUTER_C=outer.axes == 'C',
        NESTED=len(backs) > 1,
        RELU=relu,
        num_warps=8,  # with 4, some of what a thread has would not fit in registers
        **of_gates,
        **arguments,
    )
