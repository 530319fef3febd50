_base_ = 'mmaction::_base_/default_runtime.py'

custom_imports = dict(imports=['aia_mmaction'], allow_failed_imports=False)
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=3),
    # idle without `mim test --show-dir`
    visualization=dict(type='VisualizationHook'),
)
