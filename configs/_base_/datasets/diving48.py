# Diving48 with its V2 labels, as tools/data/prepare.py lays it out. Pipelines are
# the authors'.
num_segments = 8
num_classes = 48

dataset_type = 'BenchmarkVideoDataset'
data_root = 'data/diving48/videos'
ann_file_train = 'data/diving48/diving48_train_list_videos.txt'
ann_file_val = 'data/diving48/diving48_val_list_videos.txt'
guide = 'python tools/data/prepare.py diving48 (docs/datasets.md)'

# A video that cannot be read is left out in training, and named in the log; in
# testing it is an error.
train_pipeline = [
    dict(type='ReadableDecordInit', on_error='skip'),
    dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=num_segments),
    dict(type='ReadableDecordDecode', on_error='skip'),
    dict(type='Resize', scale=(320, 240), keep_ratio=False),
    dict(
        type='MultiScaleCrop',
        input_size=224,
        scales=(1, 0.875, 0.75, 0.66),
        random_crop=False,
        max_wh_scale_gap=1,
        num_fixed_crops=13,
    ),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs'),
]
# The authors' protocol: one clip, centre crop 240 of 240 x 320. `protocol` of the
# dataset names another one: efficient or accurate.
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
    dict(type='Resize', scale=(320, 240), keep_ratio=False),
    dict(type='CenterCrop', crop_size=240),
    dict(type='FormatShape', input_format='NCHW'),
    # The file's name, for whoever reads what `mim test --dump` writes
    dict(type='PackActionInputs', meta_keys=('filename', 'frame_dir')),
]

train_dataloader = dict(
    batch_size=10,
    num_workers=8,
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
    batch_size=10,
    num_workers=8,
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
