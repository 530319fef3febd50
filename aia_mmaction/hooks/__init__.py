"""Hooks for MMEngine's runner, registered in HOOKS."""

from .channels_last import ChannelsLastHook

__all__ = ['ChannelsLastHook']
