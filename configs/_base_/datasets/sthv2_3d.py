# As sthv2.py, for 3-D networks: 8 frames from all over the video as one clip
# [C, T, H, W]. UniformSample picks them a little earlier than SampleFrames.
_base_ = 'sthv2.py'

for __pipeline in (_base_.train_pipeline, _base_.test_pipeline):
    __pipeline[1] = dict(
        type='UniformSample',
        clip_len=_base_.num_segments,
        test_mode=__pipeline is _base_.test_pipeline,
    )
    __pipeline[-2].input_format = 'NCTHW'
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
