# Diving48 with its V2 labels, as tools/data/prepare.py lays it out.
_base_ = 'videos.py'

num_classes = 48
dataset = dict(
    data_prefix=dict(video='data/diving48/videos'),
    guide='python tools/data/prepare.py diving48 (README, Datasets)',
)
train_dataloader = dict(
    dataset=dict(ann_file='data/diving48/diving48_train_list_videos.txt', **dataset)
)
val_dataloader = dict(
    dataset=dict(ann_file='data/diving48/diving48_val_list_videos.txt', **dataset)
)
test_dataloader = val_dataloader
