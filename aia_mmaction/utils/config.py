"""What a config says, in text or in pure Python."""

from typing import Any


def type_name(cfg: dict) -> str:
    """The name of what a config builds, without its scope.

    Args:
        cfg (dict): With a ``type`` that is a name (``'mmaction.ResNet'``) or,
            in a config in pure Python, a class.
    """
    kind = cfg.get('type')
    return getattr(kind, '__name__', str(kind)).split('.')[-1]


def owner_of_plugins(model: Any) -> Any:
    """The part of a recognizer's config that says ``plugins``.

    Args:
        model (ConfigDict): The recognizer's config.
    """
    return model if type_name(model) == 'AIARecognizer2D' else model.backbone
