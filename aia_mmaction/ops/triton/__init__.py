"""The attention as kernels for CUDA; importing this needs Triton."""
from .attention import backward, forward

__all__ = ['backward', 'forward']
