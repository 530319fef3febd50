"""Variables of a config that were used before they were changed."""

import re
from pathlib import Path
from typing import Any, Iterable, Iterator, Tuple

from mmengine.config import Config


def unused_variables(cfg: Config) -> Iterator[str]:
    """Warnings of variables that were changed and reach nothing.

    ``--cfg-options max_epochs=6``, and a line ``num_classes = 5`` in a config
    that inherits another, change a variable whose value was copied elsewhere
    when the file was read. Settings that have its name keep their value then.

    Args:
        cfg (Config): The config of a run.
    """
    for name in _changed(cfg):
        value = cfg[name]
        settings = dict(_settings(cfg, name, value))
        if settings and value not in settings.values():
            shown = list(settings)[:3]
            is_short = isinstance(value, (bool, int, float, str))
            what = f'{name}={value}' if is_short else name
            has = f', which has {settings[shown[0]]}' if is_short else ''
            yield (
                f'{what} of the config reaches nothing: it was used when the file '
                f'was read. Change {" and ".join(shown)}{has}.'
            )


def _changed(cfg: Config) -> Iterator[str]:
    """Variables that are set twice: by two files, or by a file and an option."""
    if not cfg.filename or not Path(cfg.filename).exists():
        return
    in_files = Config.fromfile(cfg.filename)
    for name, value in cfg.items():
        # The text has that of the files that are inherited.
        assignments = re.findall(rf'^{name} *=', in_files.text, re.MULTILINE)
        if len(assignments) > 1 or in_files.get(name) != value:
            yield name


def _settings(cfg: Config, name: str, value: Any) -> Iterator[Tuple[str, Any]]:
    """What a variable is meant for, by path."""
    if name.endswith('_pipeline'):  # of train, val or test
        loader = f'{name[: -len("_pipeline")]}_dataloader'
        yield from _below(cfg.get(loader), loader, 'pipeline')
    elif isinstance(value, (bool, int, float, str)):
        for top, part in cfg.items():
            yield from _below(part, top, name)


def _below(part: Any, path: str, name: str) -> Iterator[Tuple[str, Any]]:
    children: Iterable[Tuple[Any, Any]] = ()
    if isinstance(part, dict):
        children = part.items()
    elif isinstance(part, (list, tuple)):
        children = enumerate(part)
    for key, value in children:
        if key == name:
            yield f'{path}.{key}', value
        yield from _below(value, f'{path}.{key}', name)
