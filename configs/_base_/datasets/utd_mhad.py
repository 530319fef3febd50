# UTD-MHAD's depth videos as tools/data/prepare.py lays them out: 27 actions of 8
# people, of whom 1, 3, 5 and 7 are for training.
num_segments = 8
num_classes = 27

dataset_type = 'BenchmarkVideoDataset'
data_root = 'data/utd-mhad/videos'
ann_file_train = 'data/utd-mhad/utd-mhad_train_list_videos.txt'
ann_file_val = 'data/utd-mhad/utd-mhad_test_list_videos.txt'
guide = 'python tools/data/prepare.py utd-mhad (docs/datasets.md)'

# Classes that are each other played backwards: swipe_left and swipe_right,
# draw_circle_cw and draw_circle_ccw, sit2stand and stand2sit.
reversed_pairs = [(0, 1), (8, 9), (23, 24)]

# A video that cannot be read is left out in training, and named in the log; in
# testing it is an error.
train_pipeline = [
    dict(type='ReadableDecordInit', on_error='skip'),
    dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=num_segments),
    dict(type='ReadableDecordDecode', on_error='skip'),
    dict(
        type='MultiScaleCrop',
        input_size=96,
        scales=(1, 0.875, 0.75, 0.66),
        random_crop=False,
        max_wh_scale_gap=1,
        num_fixed_crops=13,
    ),
    dict(type='Resize', scale=(96, 96), keep_ratio=False),
    dict(type='FlipByLabelName', labels='utd-mhad'),
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
    dict(type='Resize', scale=(-1, 96)),
    dict(type='CenterCrop', crop_size=96),
    dict(type='FormatShape', input_format='NCHW'),
    # The file's name, for whoever reads what `mim test --dump` writes
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
