"""What is saved of the attention's input for the backward pass.

Where the paper inserts the attention, between a batch norm and the activation,
nobody else saves the input, and saving it costs TSN-R50 6 % of all that
training saves. But the norm, called the *host norm* here, saves what it read,
and of each channel the mean and the variance, with which the norm is a
multiplication and an addition.
"""

import warnings
from functools import lru_cache
from typing import Any, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor


class Input(NamedTuple):
    """How to make the input again from the tensors that were saved for it.

    ``eps`` is None where the input itself was saved.
    """

    training: bool = False
    eps: Optional[float] = None

    def differentiable(self, tensors: List[Tensor]) -> Tensor:
        """The input as a function of what the norm saw, from the tensors that
        were saved, as autograd gives them back.
        """
        if self.eps is None:
            return tensors[0]
        x, weight, bias, mean, variance = tensors
        return torch.batch_norm(
            x,
            weight,
            bias,
            None if self.training else mean,
            None if self.training else variance,
            self.training,
            0.0,
            self.eps,
            torch.backends.cudnn.enabled,
        )

    def host_norm(self, tensors: List[Tensor]) -> Tuple[Tensor, Optional[Tensor]]:
        """What :func:`restore` takes, from the same tensors."""
        if self.eps is None:
            return tensors[0], None
        # One by the standard deviation; of running statistics, the variance
        x, weight, bias, mean, inverse = tensors
        if not self.training:
            inverse = 1 / torch.sqrt(inverse + self.eps)
        slope = weight * inverse
        return x, torch.stack([slope, bias - mean * slope])


def restore(x: Tensor, host_norm: Optional[Tensor]) -> Tensor:
    """The input again, on a CPU to the same bits.

    Args:
        x (Tensor): ``[N, C, ...]``.
        host_norm (Tensor, optional): Slope and offset of the channels,
            ``[2, C]``; None where ``x`` is the input.
    """
    if host_norm is None:
        return x
    # [2, C] -> 2 x [C, 1, ...]
    slope, offset = host_norm.view(2, -1, *(1 for _ in x.shape[2:]))
    return torch.addcmul(offset, x.to(host_norm.dtype), slope).to(x.dtype)


# Batch norms in the graph, of PyTorch itself and of cuDNN, and what they call
# epsilon. Both save one by the standard deviation.
_NORMS = {
    'NativeBatchNormBackward0': '_saved_eps',
    'CudnnBatchNormBackward0': '_saved_epsilon',
}


def save_input(x: Tensor) -> Tuple[List[Optional[Tensor]], Input]:
    """What to save of ``x`` for a backward pass.

    Returns:
        tuple[list[Tensor], Input]: ``x``, or what the batch norm that made it
        saves anyway, to hand to ``save_for_backward``; and how to undo it.
    """
    # Where a graph is traced, the compiler itself recomputes such things. Under
    # checkpointing, offloading and the like, reading what the norm saves would
    # run the hooks that are to bring it back, in the forward pass.
    if type(x) is not Tensor or type(x.grad_fn).__name__ not in _NORMS or _has_hooks():
        return [x], Input()
    try:
        return _saved_by_norm(x, x.grad_fn) or ([x], Input())
    except AttributeError as error:
        _warn(str(error))
        return [x], Input()


def _saved_by_norm(
    x: Tensor, node: Any
) -> Optional[Tuple[List[Optional[Tensor]], Input]]:
    bias = getattr(node.next_functions[-1][0], 'variable', None)
    # No affine norm, or a frozen one. A version above 0 means that x was
    # changed in place since.
    if bias is None or x._version:
        return None
    training = node._saved_training
    if training:
        stats = node._saved_result1, node._saved_result2
    else:
        stats = node._saved_running_mean, node._saved_running_var
    tensors = [node._saved_input, node._saved_weight, bias, *stats]
    return tensors, Input(training, getattr(node, _NORMS[type(node).__name__]))


@lru_cache(maxsize=None)  # once
def _warn(error: str) -> None:
    warnings.warn(
        'aia_mmaction saves the input of attention layers in training, about 6 % '
        f'more memory: PyTorch {torch.__version__} does not tell what a batch norm '
        f'saves ({error}).',
        stacklevel=2,
    )


def _has_hooks() -> bool:
    """Whether hooks of saved tensors are in use; asks as PyTorch documents it."""
    try:
        with torch.autograd.graph.disable_saved_tensors_hooks(''):
            return False
    except RuntimeError:  # there are some to disable
        return True
