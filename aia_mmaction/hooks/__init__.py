"""Hooks for MMEngine's runner, registered in HOOKS."""

from .channels_last import ChannelsLastHook
from .gate_monitor import GateMonitorHook

__all__ = ['ChannelsLastHook', 'GateMonitorHook']
