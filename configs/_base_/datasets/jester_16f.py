# As jester.py, with 16 frames per clip.
_base_ = 'jester.py'

num_segments = 16
_base_.train_pipeline[0].num_clips = num_segments
_base_.test_pipeline[0].num_clips = num_segments
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
