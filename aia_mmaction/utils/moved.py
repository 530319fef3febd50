"""Modules under the names that they had in version 0.1.

Pickled models and scripts name them. To be deleted with version 0.3.
"""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable, Dict, Optional, Tuple

MODULES = {
    f'aia_mmaction.{old}': f'aia_mmaction.{new}'
    for old, new in {
        'backbones.behaviour': 'plugins.behaviour',
        'backbones.blocks': 'plugins.stages',
        'backbones.insertion': 'plugins.insertion',
        'backbones.paper_modules': 'plugins.paper_modules',
        'backbones.places': 'plugins.slots',
        'backbones.plugins': 'plugins.grammar',
        'datasets.guided': 'datasets.benchmark',
        'files': 'utils.files',
        'predictions': 'evaluation.dumps',
        **{
            f'backbones.{name}': 'backbones.registered'
            for name in (
                'c2d',
                'c3d',
                'mobilenet_v2',
                'mobilenet_v2_tsm',
                'resnet',
                'resnet2plus1d',
                'resnet3d',
                'resnet3d_csn',
                'resnet3d_slowfast',
                'resnet3d_slowonly',
                'resnet_tin',
                'tanet',
                'x3d',
            )
        },
    }.items()
}
NAMES: Dict[str, Tuple[str, str]] = {
    f'aia_mmaction.backbones.{name}': ('aia_mmaction.plugins', name)
    for name in ('PAPER_MODULES', 'attention_layers', 'insert_plugins')
}
# In MMAction2's registry, too
DATASETS = {
    'GuidedRawframeDataset': 'BenchmarkRawframeDataset',
    'GuidedVideoDataset': 'BenchmarkVideoDataset',
}
NAMES.update(
    (f'{module}.{old}', ('aia_mmaction.datasets', new))
    for module in ('aia_mmaction', 'aia_mmaction.datasets')
    for old, new in DATASETS.items()
)


def _warn(old: str, new: str) -> None:
    warnings.warn(
        f'{old} is {new} since version 0.2. The old name goes with version 0.3.',
        FutureWarning,
        stacklevel=3,
    )


class MovedModules(MetaPathFinder, Loader):
    """Finds a module under its old name, with one warning."""

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> Optional[ModuleSpec]:
        """What the import system asks where nobody else knows a module."""
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself, not a copy: its classes are the same."""
        _warn(spec.name, MODULES[spec.name])
        module = import_module(MODULES[spec.name])
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it ran when it was imported. Its own spec is put back."""
        module.__spec__ = self._own_spec


def moved_name(module: str, name: str) -> Any:
    """What a module had under a name; for its ``__getattr__``.

    Raises:
        AttributeError: If it never had it.
    """
    if f'{module}.{name}' not in NAMES:
        raise AttributeError(f'module {module!r} has no attribute {name!r}')
    new, attribute = NAMES[f'{module}.{name}']
    _warn(f'{module}.{name}', f'{new}.{attribute}')
    return getattr(import_module(new), attribute)


def know_old_names() -> None:
    """Let the import system and MMAction2's registry know of them."""
    from mmaction.registry import DATASETS as REGISTRY

    sys.meta_path.append(MovedModules())
    for old, new in DATASETS.items():
        if old not in REGISTRY:
            REGISTRY.register_module(name=old, module=_build_by_new_name(old, new))


def _build_by_new_name(old: str, new: str) -> Callable[..., Any]:
    def build(**kwargs: Any) -> Any:
        _warn(old, new)
        return getattr(import_module('aia_mmaction.datasets'), new)(**kwargs)

    return build
