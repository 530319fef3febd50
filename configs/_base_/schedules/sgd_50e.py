# The authors' schedule, which MMAction2 has: 50 epochs of SGD with lr 0.01,
# weight decay 1e-4, x0.1 at 20 and 40, gradient norm 20, norms undecayed. Its
# fc_lr5 gives the last layer another rate, which the paper does not name.
_base_ = 'mmaction::_base_/schedules/sgd_tsm_50e.py'

optim_wrapper = dict(
    constructor='AIAOptimWrapperConstructor',
    paramwise_cfg=dict(
        constructor='TSMOptimWrapperConstructor',
        # For a network that is trained already, to which attention is added: 10
        attention_lr_mult=1,
    ),
)

# The learning rate is for 40 clips: 4 GPUs x 10 clips here. `--auto-scale-lr`
# adapts it to another number of GPUs.
auto_scale_lr = dict(enable=False, base_batch_size=40)
