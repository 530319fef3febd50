"""The attention as kernels for CUDA; importing this needs Triton."""

from .attention import backward, forward, forward_inplace, new_saved

__all__ = ['backward', 'forward', 'forward_inplace', 'new_saved']
