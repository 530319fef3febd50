"""What an autograd graph holds on to."""

from typing import Any, Iterator

from torch import Tensor, nn


def bytes_saved(output: Tensor, model: nn.Module) -> int:
    """Bytes that are saved for the backward pass, without the model's weights.

    Read off the graph and not counted by saved-tensor hooks, under which less
    can be recomputed (see :func:`.recompute.keep`).

    Args:
        output (Tensor): What the model returned in a mode that tracks
            gradients.
        model (nn.Module): Its parameters and buffers are left out.
    """
    seen = {t.untyped_storage().data_ptr() for t in model.state_dict().values()}
    total = 0
    for tensor in _saved_tensors(output.grad_fn):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            total += storage.nbytes()
    return total


def _saved_tensors(root: Any) -> Iterator[Tensor]:
    nodes, visited = [root], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        nodes += [following for following, _ in node.next_functions]
        # Functions written in Python have a tuple, others an attribute each.
        saved = list(getattr(node, 'saved_tensors', ()))
        for name in dir(node):
            if name.startswith('_saved_'):
                value = getattr(node, name)
                saved += value if isinstance(value, (list, tuple)) else [value]
        yield from (value for value in saved if isinstance(value, Tensor))
