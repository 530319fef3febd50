# Something-Something V2 as tools/data/prepare.py lays it out.
_base_ = 'videos.py'

num_classes = 174
train_pipeline = [
    *_base_.train_pipeline[:6],
    dict(type='FlipByLabelName', labels='sthv2'),
    *_base_.train_pipeline[7:],
]

dataset = dict(
    data_prefix=dict(video='data/sthv2/videos'),
    guide='python tools/data/prepare.py sthv2 (README, Datasets)',
)
train_dataloader = dict(
    dataset=dict(
        ann_file='data/sthv2/sthv2_train_list_videos.txt',
        pipeline=train_pipeline,
        **dataset,
    )
)
val_dataloader = dict(
    dataset=dict(ann_file='data/sthv2/sthv2_val_list_videos.txt', **dataset)
)
test_dataloader = val_dataloader
