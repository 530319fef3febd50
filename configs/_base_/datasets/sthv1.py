# Something-Something V1 as tools/data/prepare.py lays it out: frames as
# published, class numbers in the order of the official label file.
_base_ = 'videos.py'

num_classes = 174
train_pipeline = [
    _base_.train_pipeline[1],
    dict(type='ReadableRawFrameDecode', on_error='skip'),
    *_base_.train_pipeline[3:6],
    dict(type='FlipByLabelName', labels='sthv1'),
    *_base_.train_pipeline[7:],
]
test_pipeline = [
    _base_.test_pipeline[1],
    dict(type='ReadableRawFrameDecode'),
    *_base_.test_pipeline[3:],
]

dataset = dict(
    type='GuidedRawframeDataset',
    data_prefix=dict(img='data/sthv1/rawframes'),
    filename_tmpl='{:05}.jpg',
    guide='python tools/data/prepare.py sthv1 (README, Datasets)',
)
train_dataloader = dict(
    dataset=dict(
        ann_file='data/sthv1/sthv1_train_list_rawframes.txt',
        pipeline=train_pipeline,
        **dataset,
    )
)
val_dataloader = dict(
    dataset=dict(
        ann_file='data/sthv1/sthv1_val_list_rawframes.txt',
        pipeline=test_pipeline,
        **dataset,
    )
)
test_dataloader = val_dataloader
