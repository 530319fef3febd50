"""What a run is checked for before its first iteration."""

from .hook import CheckConfigHook

__all__ = ['CheckConfigHook']
