import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.nn.utils import convert_conv2d_weight_memory_format


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Have a 2-D network compute in PyTorch's ``channels_last`` layout.

    Convolutions are faster in it on many CPUs, most of all depthwise ones, and on
    GPUs in half precision. Results differ by rounding alone. Of 3-D networks
    nothing changes.
    """

    def before_run(self, runner: Runner) -> None:
        """Lay out the weights; what the first convolution makes follows them."""
        # Not Module.to, which fails for the weights of 3-D convolutions
        convert_conv2d_weight_memory_format(runner.model, torch.channels_last)
