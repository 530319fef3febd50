"""Commands that are run as a user would run them."""

import os
import subprocess
import sys
from typing import Any

from .files import as_command

# Have glibc keep the memory of feature maps, which training on a CPU otherwise gets
# anew from the system for each of them, at up to half of its time.
KEEP_MEMORY = dict(MALLOC_MMAP_MAX_='0', MALLOC_TRIM_THRESHOLD_='-1')

MIM = (sys.executable, '-m', 'mim')


def run_command(*command: Any) -> None:
    """Run a command that shows its own progress.

    Raises:
        SystemExit: If it fails.
    """
    print(f'\n$ {as_command(*command)}', flush=True)
    environment = {**KEEP_MEMORY, **os.environ}
    if subprocess.call([str(part) for part in command], env=environment):
        raise SystemExit(f'The command failed: {as_command(*command)}')
