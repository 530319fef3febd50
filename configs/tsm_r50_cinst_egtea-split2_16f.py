# As tsm_r50_cinst_egtea-split1_16f.py, on split 2.
_base_ = 'tsm_r50_cinst_egtea-split1_16f.py'

train_dataloader = dict(
    dataset=dict(ann_file='data/egtea/egtea_train_split_2_videos.txt')
)
val_dataloader = dict(dataset=dict(ann_file='data/egtea/egtea_test_split_2_videos.txt'))
test_dataloader = val_dataloader
