"""What this process came from."""

import os

_FIRST = os.getpid()


def was_forked() -> bool:
    """Whether it was forked off the one that imported this package."""
    return os.getpid() != _FIRST
