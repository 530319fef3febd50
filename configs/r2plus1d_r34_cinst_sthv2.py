# AIA(R(2+1)D) with CinST on Something-Something V2, 8 frames. The authors
# publish no recipe for it: the network is that of Kinetics-400, data and
# schedule are those of the other networks on V2.
_base_ = [
    '_base_/models/r2plus1d_r34.py',
    '_base_/datasets/sthv2_3d.py',
    '_base_/schedules/sgd_50e.py',
    '_base_/default_runtime.py',
]

model = dict(cls_head=dict(num_classes=_base_.num_classes))
sync_bn = 'torch'
