# The dataset that tools/data/make_motion_pairs.py renders: 8 classes, read
# from encoded video like any other dataset.
num_segments = 8
num_classes = 8

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
    dict(test_mode=True, **train_pipeline[1]),
    dict(type='ReadableDecordDecode'),
    *train_pipeline[3:5],
    dict(type='PackActionInputs', meta_keys=('filename',)),
]

loader = dict(batch_size=16, num_workers=1, persistent_workers=True)
dataset = dict(
    type='GuidedVideoDataset',
    data_prefix=dict(video='data/motion_pairs/videos'),
    guide="the README's section Demo",
)
train_dataloader = dict(
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        ann_file='data/motion_pairs/motion_pairs_train_list_videos.txt',
        pipeline=train_pipeline,
        **dataset,
    ),
    **loader,
)
val_dataloader = dict(
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='data/motion_pairs/motion_pairs_test_list_videos.txt',
        pipeline=test_pipeline,
        test_mode=True,
        **dataset,
    ),
    **loader,
)
test_dataloader = val_dataloader

val_evaluator = dict(type='AccMetric')
test_evaluator = val_evaluator
