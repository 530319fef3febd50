# EGTEA Gaze+, actions, the first of its three splits.
_base_ = 'videos.py'

num_classes = 106
dataset = dict(
    data_prefix=dict(video='data/egtea/videos'),
    guide='python tools/data/prepare.py egtea (README, Datasets)',
)
train_dataloader = dict(
    dataset=dict(ann_file='data/egtea/egtea_train_split_1_videos.txt', **dataset)
)
val_dataloader = dict(
    dataset=dict(ann_file='data/egtea/egtea_test_split_1_videos.txt', **dataset)
)
test_dataloader = val_dataloader
