"""Processes of their own that do not start with seconds of imports.

They know nothing of OpenMMLab and of this package, whose import is what they
are for.
"""

import os
import sys
import traceback
from multiprocessing import get_context
from tempfile import NamedTemporaryFile

_context = get_context('forkserver')
_context.set_forkserver_preload(
    ['cv2', 'matplotlib.pyplot', 'scipy.stats', 'torch', 'torch.distributed.optim']
)


def run_code(code, cwd, env, timeout=3600):
    """Run code as ``python -c`` would.

    Returns:
        tuple[int, str]: The exit code, and what was printed.
    """
    with NamedTemporaryFile('r') as output:
        process = _context.Process(target=_run, args=(code, cwd, env, output.name))
        process.start()
        process.join(timeout)
        process.kill()
        return process.exitcode, output.read()


def _run(code, cwd, env, output):
    os.environ.update(env)
    sys.path[:0] = env.get('PYTHONPATH', '').split(os.pathsep)
    os.chdir(cwd)
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    try:
        exec(code, {'__name__': '__main__'})
    except Exception:
        traceback.print_exc()
        sys.exit(1)
