"""The attention as loops for CPUs; importing this needs numba."""

from .attention import backward, forward, forward_inplace, new_saved

__all__ = ['backward', 'forward', 'forward_inplace', 'new_saved']
