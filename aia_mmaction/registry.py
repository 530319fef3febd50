"""The scope ``aia_mmaction``: MMAction2's registries under another name.

A config that is inherited by ``_base_ = 'aia_mmaction::...'`` gets this scope
from MMEngine. All types are registered in MMAction2's own registries, which
these children fall back on.
"""

from mmaction import registry
from mmengine.registry import Registry

for _name, _parent in list(vars(registry).items()):
    if isinstance(_parent, Registry):
        globals()[_name] = Registry(
            _parent.name,
            parent=_parent,
            scope='aia_mmaction',
            locations=['aia_mmaction'],
        )
