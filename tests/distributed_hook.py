"""A run in float64 that logs the loss of all processes.

In float32, rounding depends on the order of sums: after six steps a weight of
two processes was more than 0.6 % of what was learned away from that of one.
"""

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

torch.set_default_dtype(torch.float64)


@HOOKS.register_module()
class LossOfAllRanks(Hook):
    def before_run(self, runner):
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        # Its mean and deviation are float32 whatever the default.
        model.data_preprocessor.double()

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        # Those of the attention, too, which `norm_eval` lets learn
        if not runner.cfg.get('sync_bn'):
            for module in runner.model.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        loss = outputs['loss'].detach().clone()
        assert loss.dtype == torch.float64
        all_reduce(loss, op='mean')
        runner.message_hub.update_scalar('train/loss_of_all', loss)
