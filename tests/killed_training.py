"""Trains a config, and is killed as often as it is told.

    python killed_training.py CONFIG WORK_DIR MOMENT ...

A moment is ``iteration:N``, ``validation:N`` (before the N-th of the attempt),
``SECONDS:N`` (so long after the start, or before the N-th iteration),
``write`` (in the middle of a checkpoint) or ``pointer`` (in the middle of
``last_checkpoint``). After the last one, the training goes on to its end.
Every attempt is a process of its own, forked after the imports.
"""

import os
import signal
import sys
import threading
from multiprocessing import get_context
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

import aia_mmaction  # noqa: F401


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@HOOKS.register_module()
class Die(Hook):
    """Die before an iteration of training or validation."""

    priority = 'LOW'

    def __init__(self, moment, countdown):
        self.moment = moment
        self.countdown = countdown

    def _tick(self, moment):
        if moment == self.moment:
            self.countdown -= 1
            if self.countdown == 0:
                die()

    def before_train_iter(self, *args, **kwargs):
        self._tick('iteration')

    def before_val_iter(self, *args, **kwargs):
        self._tick('validation')


def half_of_a_write():
    write = Path.write_bytes

    def half(self, data):
        if '.pth' in self.name:
            write(self, data[: len(data) // 2])
            die()
        return write(self, data)

    Path.write_bytes = half


def half_of_a_pointer():
    save = CheckpointHook._save_checkpoint_with_step

    def half(self, runner, *args, **kwargs):
        save(self, runner, *args, **kwargs)
        Path(runner.work_dir, 'last_checkpoint').write_text('')
        die()

    CheckpointHook._save_checkpoint_with_step = half


def train(cfg, moment):
    os.setpgid(0, 0)
    if moment == 'write':
        half_of_a_write()
    elif moment == 'pointer':
        half_of_a_pointer()
    elif moment is not None:
        moment, countdown = moment.split(':')
        if moment[0].isdigit():
            timer = threading.Timer(float(moment), die)
            timer.daemon = True
            timer.start()
            moment = 'iteration'
        cfg.custom_hooks = [dict(type='Die', moment=moment, countdown=int(countdown))]
    Runner.from_cfg(cfg).train()


def main():
    config, work_dir, *moments = sys.argv[1:]
    cfg = Config.fromfile(config)
    cfg.work_dir = work_dir
    cfg.resume = True
    fork = get_context('fork')
    for moment in [*moments, None]:
        process = fork.Process(target=train, args=(cfg, moment))
        process.start()
        process.join()
        saved = sorted(p.name for p in Path(work_dir).glob('*.pth'))
        print(f'{moment}: exit {process.exitcode}, {saved}', flush=True)
        try:  # its workers go with it
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    sys.exit(process.exitcode)


if __name__ == '__main__':
    main()
