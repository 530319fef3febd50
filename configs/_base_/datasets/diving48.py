# Diving48 with its V2 labels, as MMAction2's data guide lays it out.
_base_ = 'videos.py'

num_classes = 48
dataset = dict(
    data_prefix=dict(video='data/diving48/videos'),
    guide="the README's section Datasets, Diving48")
train_dataloader = dict(
    dataset=dict(
        ann_file='data/diving48/diving48_train_list_videos.txt', **dataset))
val_dataloader = dict(
    dataset=dict(
        ann_file='data/diving48/diving48_val_list_videos.txt', **dataset))
test_dataloader = val_dataloader
