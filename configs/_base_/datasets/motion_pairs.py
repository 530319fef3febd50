# The dataset that tools/data/make_motion_pairs.py renders: 8 classes, read
# from encoded video like any other dataset.
num_segments = 8
num_classes = 8

dataset_type = 'BenchmarkVideoDataset'
data_root = 'data/motion_pairs/videos'
ann_file_train = 'data/motion_pairs/motion_pairs_train_list_videos.txt'
ann_file_val = 'data/motion_pairs/motion_pairs_test_list_videos.txt'
guide = 'docs/demo.md'

# Classes that are each other played backwards
reversed_pairs = [(0, 1), (2, 3), (4, 5), (6, 7)]

# No flip: it swaps left and right, which are classes here.
train_pipeline = [
    dict(type='ReadableDecordInit', on_error='skip'),
    dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=num_segments),
    dict(type='ReadableDecordDecode', on_error='skip'),
    dict(type='Resize', scale=(48, 48), keep_ratio=False),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs'),
]
test_pipeline = [
    dict(type='ReadableDecordInit'),
    dict(
        type='SampleFrames',
        clip_len=1,
        frame_interval=1,
        num_clips=num_segments,
        test_mode=True,
    ),
    dict(type='ReadableDecordDecode'),
    dict(type='Resize', scale=(48, 48), keep_ratio=False),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs', meta_keys=('filename',)),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        ann_file=ann_file_train,
        data_prefix=dict(video=data_root),
        pipeline=train_pipeline,
        guide=guide,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        ann_file=ann_file_val,
        data_prefix=dict(video=data_root),
        pipeline=test_pipeline,
        test_mode=True,
        guide=guide,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='AccMetric')
test_evaluator = val_evaluator
