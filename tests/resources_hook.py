"""Logs what a run holds: memory and open files, of it and of its workers."""

import os
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

PAGE = os.sysconf('SC_PAGE_SIZE')


def processes():
    me = Path('/proc/self').resolve()
    children = (me / 'task' / me.name / 'children').read_text().split()
    return [me, *(Path('/proc') / child for child in children)]


@HOOKS.register_module()
class Resources(Hook):
    priority = 'NORMAL'  # before the logger

    def after_train_iter(self, runner, *args, **kwargs):
        pages = sum(int((p / 'statm').read_text().split()[1]) for p in processes())
        files = sum(len(list((p / 'fd').iterdir())) for p in processes())
        hub = runner.message_hub
        hub.update_scalar('train/megabytes', pages * PAGE / 2**20)
        hub.update_scalar('train/files', files)
