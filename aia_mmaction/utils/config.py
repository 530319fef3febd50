"""What a config says, in text or in pure Python."""


def type_name(cfg: dict) -> str:
    """The name of what a config builds, without its scope.

    Args:
        cfg (dict): With a ``type`` that is a name (``'mmaction.ResNet'``) or,
            in a config in pure Python, a class.
    """
    kind = cfg.get('type')
    return getattr(kind, '__name__', str(kind)).split('.')[-1]
