# Jester as tools/data/prepare.py lays it out: frames as
# published, class numbers in the order of the official label file.
_base_ = 'videos.py'

num_classes = 27
train_pipeline = [
    _base_.train_pipeline[1],
    dict(type='ReadableRawFrameDecode', on_error='skip'),
    *_base_.train_pipeline[3:6],
    dict(type='FlipByLabelName', labels='jester'),
    *_base_.train_pipeline[7:],
]
test_pipeline = [
    _base_.test_pipeline[1],
    dict(type='ReadableRawFrameDecode'),
    *_base_.test_pipeline[3:],
]

dataset = dict(
    type='GuidedRawframeDataset',
    data_prefix=dict(img='data/jester/rawframes'),
    filename_tmpl='{:05}.jpg',
    guide='python tools/data/prepare.py jester (README, Datasets)',
)
train_dataloader = dict(
    dataset=dict(
        ann_file='data/jester/jester_train_list_rawframes.txt',
        pipeline=train_pipeline,
        **dataset,
    )
)
val_dataloader = dict(
    dataset=dict(
        ann_file='data/jester/jester_val_list_rawframes.txt',
        pipeline=test_pipeline,
        **dataset,
    )
)
test_dataloader = val_dataloader
