"""Writing without losing what was there."""
import os
import tempfile
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, also where the disk is full."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}-')
    try:
        with open(handle, 'w', encoding='utf-8') as file:
            file.write(text)
        os.chmod(draft, 0o666 & ~_umask())  # mkstemp lets only the owner read
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
