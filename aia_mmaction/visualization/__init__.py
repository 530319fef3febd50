"""Pictures of what the attention does."""

from .figures import Panel, contact_sheet, step_images, write_gif, write_mp4, write_png
from .gates import GateMap, gate_maps, layers_by_stage

__all__ = [
    'GateMap',
    'Panel',
    'contact_sheet',
    'gate_maps',
    'layers_by_stage',
    'step_images',
    'write_gif',
    'write_mp4',
    'write_png',
]
