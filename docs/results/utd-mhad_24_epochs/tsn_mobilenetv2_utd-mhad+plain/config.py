ann_file_train = 'data/utd-mhad/utd-mhad_train_list_videos.txt'
ann_file_val = 'data/utd-mhad/utd-mhad_test_list_videos.txt'
custom_hooks = [
    dict(type='ChannelsLastHook'),
]
custom_imports = dict(
    allow_failed_imports=False, imports=[
        'aia_mmaction',
    ])
data_root = 'data/utd-mhad/videos'
dataset_type = 'BenchmarkVideoDataset'
default_hooks = dict(
    checkpoint=dict(
        _scope_='mmaction',
        interval=1,
        max_keep_ckpts=3,
        save_best='auto',
        type='CheckpointHook'),
    logger=dict(
        _scope_='mmaction', ignore_last=False, interval=10, type='LoggerHook'),
    param_scheduler=dict(_scope_='mmaction', type='ParamSchedulerHook'),
    runtime_info=dict(_scope_='mmaction', type='RuntimeInfoHook'),
    sampler_seed=dict(_scope_='mmaction', type='DistSamplerSeedHook'),
    sync_buffers=dict(_scope_='mmaction', type='SyncBuffersHook'),
    timer=dict(_scope_='mmaction', type='IterTimerHook'),
    visualization=dict(type='VisualizationHook'))
default_scope = 'mmaction'
env_cfg = dict(
    cudnn_benchmark=False,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
guide = 'python tools/data/prepare.py utd-mhad (docs/datasets.md)'
load_from = None
log_level = 'INFO'
log_processor = dict(
    _scope_='mmaction', by_epoch=True, type='LogProcessor', window_size=20)
model = dict(
    _scope_='mmaction',
    backbone=dict(
        num_segments=8,
        plugins=[],
        pretrained='data/mobilenet_v2_imagenet.pth',
        type='AIAMobileNetV2'),
    cls_head=dict(
        average_clips='prob',
        consensus=dict(dim=1, type='AvgConsensus'),
        dropout_ratio=0.5,
        in_channels=1280,
        init_std=0.01,
        num_classes=27,
        spatial_type='avg',
        type='TSNHead'),
    data_preprocessor=dict(
        format_shape='NCHW',
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type='ActionDataPreprocessor'),
    test_cfg=None,
    train_cfg=None,
    type='Recognizer2D')
num_classes = 27
num_segments = 8
optim_wrapper = dict(
    clip_grad=dict(max_norm=20, norm_type=2),
    constructor='AIAOptimWrapperConstructor',
    optimizer=dict(lr=0.001, type='AdamW', weight_decay=0.01),
    paramwise_cfg=dict(attention_lr_mult=1))
param_scheduler = [
    dict(
        convert_to_iter_based=True, end=4, start_factor=0.04, type='LinearLR'),
    dict(
        begin=4, convert_to_iter_based=True, end=24, type='CosineAnnealingLR'),
]
resume = False
reversed_pairs = [
    (
        0,
        1,
    ),
    (
        8,
        9,
    ),
    (
        23,
        24,
    ),
]
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_size=16,
    dataset=dict(
        ann_file='data/utd-mhad/utd-mhad_test_list_videos.txt',
        data_prefix=dict(video='data/utd-mhad/videos'),
        guide='python tools/data/prepare.py utd-mhad (docs/datasets.md)',
        pipeline=[
            dict(type='ReadableDecordInit'),
            dict(
                clip_len=1,
                frame_interval=1,
                num_clips=8,
                test_mode=True,
                type='SampleFrames'),
            dict(type='ReadableDecordDecode'),
            dict(scale=(
                -1,
                96,
            ), type='Resize'),
            dict(crop_size=96, type='CenterCrop'),
            dict(input_format='NCHW', type='FormatShape'),
            dict(meta_keys=('filename', ), type='PackActionInputs'),
        ],
        test_mode=True,
        type='BenchmarkVideoDataset'),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(type='AccMetric')
test_pipeline = [
    dict(type='ReadableDecordInit'),
    dict(
        clip_len=1,
        frame_interval=1,
        num_clips=8,
        test_mode=True,
        type='SampleFrames'),
    dict(type='ReadableDecordDecode'),
    dict(scale=(
        -1,
        96,
    ), type='Resize'),
    dict(crop_size=96, type='CenterCrop'),
    dict(input_format='NCHW', type='FormatShape'),
    dict(meta_keys=('filename', ), type='PackActionInputs'),
]
train_cfg = dict(
    max_epochs=24, type='EpochBasedTrainLoop', val_begin=24, val_interval=24)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        ann_file='data/utd-mhad/utd-mhad_train_list_videos.txt',
        data_prefix=dict(video='data/utd-mhad/videos'),
        guide='python tools/data/prepare.py utd-mhad (docs/datasets.md)',
        pipeline=[
            dict(on_error='skip', type='ReadableDecordInit'),
            dict(
                clip_len=1, frame_interval=1, num_clips=8,
                type='SampleFrames'),
            dict(on_error='skip', type='ReadableDecordDecode'),
            dict(
                input_size=96,
                max_wh_scale_gap=1,
                num_fixed_crops=13,
                random_crop=False,
                scales=(
                    1,
                    0.875,
                    0.75,
                    0.66,
                ),
                type='MultiScaleCrop'),
            dict(keep_ratio=False, scale=(
                96,
                96,
            ), type='Resize'),
            dict(labels='utd-mhad', type='FlipByLabelName'),
            dict(input_format='NCHW', type='FormatShape'),
            dict(type='PackActionInputs'),
        ],
        type='BenchmarkVideoDataset'),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=True, type='DefaultSampler'))
train_pipeline = [
    dict(on_error='skip', type='ReadableDecordInit'),
    dict(clip_len=1, frame_interval=1, num_clips=8, type='SampleFrames'),
    dict(on_error='skip', type='ReadableDecordDecode'),
    dict(
        input_size=96,
        max_wh_scale_gap=1,
        num_fixed_crops=13,
        random_crop=False,
        scales=(
            1,
            0.875,
            0.75,
            0.66,
        ),
        type='MultiScaleCrop'),
    dict(keep_ratio=False, scale=(
        96,
        96,
    ), type='Resize'),
    dict(labels='utd-mhad', type='FlipByLabelName'),
    dict(input_format='NCHW', type='FormatShape'),
    dict(type='PackActionInputs'),
]
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=16,
    dataset=dict(
        ann_file='data/utd-mhad/utd-mhad_test_list_videos.txt',
        data_prefix=dict(video='data/utd-mhad/videos'),
        guide='python tools/data/prepare.py utd-mhad (docs/datasets.md)',
        pipeline=[
            dict(type='ReadableDecordInit'),
            dict(
                clip_len=1,
                frame_interval=1,
                num_clips=8,
                test_mode=True,
                type='SampleFrames'),
            dict(type='ReadableDecordDecode'),
            dict(scale=(
                -1,
                96,
            ), type='Resize'),
            dict(crop_size=96, type='CenterCrop'),
            dict(input_format='NCHW', type='FormatShape'),
            dict(meta_keys=('filename', ), type='PackActionInputs'),
        ],
        test_mode=True,
        type='BenchmarkVideoDataset'),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(type='AccMetric')
vis_backends = [
    dict(_scope_='mmaction', type='LocalVisBackend'),
]
visualizer = dict(
    _scope_='mmaction',
    type='ActionVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
    ])
