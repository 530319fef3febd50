import torch

# The fast paths need torch >= 2.4.
collect_ignore = (
    []
    if hasattr(torch.library, 'custom_op')
    else [
        'test_dispatch.py',
        'test_numba.py',
        'test_paths.py',
        'test_recompute.py',
        'test_self_check.py',
        'test_sync.py',
        'test_triton.py',
    ]
)
