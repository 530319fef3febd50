from typing import Any, Dict, Optional, Set

from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn
from torch.optim import Optimizer

from aia_mmaction.necks import AIANeck
from aia_mmaction.plugins.slots import AttentionLayers


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class AIAOptimWrapperConstructor:
    """Another constructor, with a learning rate of its own for the attention.

    In a network that is trained already, only the attention is new: it may learn
    faster than the rest.

    Args:
        optim_wrapper_cfg (dict): As of the other constructor.
        paramwise_cfg (dict, optional): Of it, ``attention_lr_mult`` is what the
            rates of the attention are multiplied by (1 if it is missing), and
            ``constructor`` is the type of the other constructor
            (``'DefaultOptimWrapperConstructor'``), which is given the rest.

    Raises:
        ValueError: If ``attention_lr_mult`` is no number above 0.
    """

    def __init__(
        self,
        optim_wrapper_cfg: Dict[str, Any],
        paramwise_cfg: Optional[Dict[str, Any]] = None,
    ) -> None:
        others = dict(paramwise_cfg or {})
        self.lr_mult = others.pop('attention_lr_mult', 1)
        if not isinstance(self.lr_mult, (int, float)) or self.lr_mult <= 0:
            raise ValueError(
                'AIAOptimWrapperConstructor: expected attention_lr_mult to be a '
                f'number above 0, got {self.lr_mult!r}.'
            )
        self.constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
            dict(
                type=others.pop('constructor', 'DefaultOptimWrapperConstructor'),
                optim_wrapper_cfg=optim_wrapper_cfg,
                paramwise_cfg=others or None,
                _scope_='mmaction',
            )
        )

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer of a model, in its wrapper."""
        wrapper = self.constructor(model)
        if self.lr_mult != 1:  # otherwise the groups are those of older checkpoints
            attention = {
                id(parameter)
                for module in model.modules()
                if isinstance(module, (AttentionLayers, AIANeck))
                for parameter in module.parameters()
            }
            several = isinstance(wrapper, OptimWrapperDict)
            for one in wrapper.values() if several else [wrapper]:
                _multiply_rate(one.optimizer, attention, self.lr_mult)
        return wrapper


def _multiply_rate(optimizer: Optimizer, chosen: Set[int], factor: float) -> None:
    """Multiply the rate of parameters, given by their ids."""
    for group in list(optimizer.param_groups):
        own = [p for p in group['params'] if id(p) in chosen]
        others = [p for p in group['params'] if id(p) not in chosen]
        rate = group['lr'] * factor
        if not others:
            group['lr'] = rate
        elif own:
            group['params'] = others
            optimizer.add_param_group({**group, 'params': own, 'lr': rate})
