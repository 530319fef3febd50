"""What `plugins=` says, and where in a network it goes."""

from .insertion import insert_plugins
from .paper_modules import PAPER_MODULES
from .slots import attention_layers

__all__ = ['PAPER_MODULES', 'attention_layers', 'insert_plugins']
