"""MMEngine logs the loss of the first process; here the mean over all."""
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class LossOfAllRanks(Hook):

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        loss = outputs['loss'].detach().clone()
        all_reduce(loss, op='mean')
        runner.message_hub.update_scalar('train/loss_of_all', loss)
