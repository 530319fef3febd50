# AIA(TSM) with CinST, 8 frames, the authors' recipe. It differs in the class
# order, which is MMAction2's and not the authors' sorted one, and in the last
# layer's learning rate and decay (fc_lr5), which the paper does not name.
_base_ = [
    '_base_/models/tsm_r50.py', '_base_/datasets/sthv1.py',
    '_base_/schedules/sgd_50e.py', '_base_/default_runtime.py'
]

model = dict(cls_head=dict(num_classes=174))
