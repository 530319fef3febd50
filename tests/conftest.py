import io
import logging
import os
import runpy
import subprocess
import sys
import traceback
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from copy import deepcopy
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import mmaction
import pytest
import torch
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.visualization import Visualizer

from aia_mmaction.plugins import attention_layers
from aia_mmaction.repairs import all_repairs
from aia_mmaction.repairs.on_disk import Edit

from .preloaded import run_code

REPO = Path(__file__).resolve().parent.parent
MMACTION2_TOOLS = Path(mmaction.__file__).parent / '.mim' / 'tools'

# Nothing in these tests is large enough for worker processes.
IN_PROCESS = [
    f'{split}_dataloader.{key}'
    for split in ('train', 'val', 'test')
    for key in ('num_workers=0', 'persistent_workers=False')
]

# The first two stages of a ResNet-18, of 0.7 instead of 11 million parameters
HALF_RESNET18 = dict(
    backbone=dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,)),
    cls_head=dict(in_channels=128),
)


def forget_runs():
    """Let go of what MMEngine keeps of a run until its process ends."""
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.close()
    for manager in (MessageHub, DefaultScope, MMLogger, Visualizer):
        manager._instance_dict.clear()


@pytest.fixture(autouse=True)
def clean_mmengine():
    """The default scope of MMAction2, and nothing left of earlier runs."""
    forget_runs()
    init_default_scope('mmaction')
    torch.manual_seed(0)


def run(*command, cwd, env=None, check=True, timeout=600):
    """Run a command as a user would, and return what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    _check(done.returncode, check, done.stdout)
    return done.stdout


def mim(*args, cwd, check=True):
    """Run ``mim``, in processes of its own."""
    return run(sys.executable, '-m', 'mim', *args, cwd=cwd, check=check)


def call(script, *args, cwd, check=True):
    """Run ``python SCRIPT ARGS`` in this process, and return what it printed.

    A command takes seconds to import everything, which is done here.
    """
    forget_runs()
    printed, failed, before = io.StringIO(), False, os.getcwd()
    folder = str(Path(script).parent)
    with ExitStack() as stack:
        stack.enter_context(patch.object(sys, 'argv', [str(script), *map(str, args)]))
        stack.enter_context(patch.object(sys, 'path', [folder, *sys.path]))
        stack.enter_context(patch.dict(os.environ))
        stack.enter_context(redirect_stdout(printed))
        stack.enter_context(redirect_stderr(printed))
        stack.callback(os.chdir, before)
        os.chdir(cwd)
        try:
            runpy.run_path(str(script), run_name='__main__')
        except SystemExit as error:
            failed = error.code not in (None, 0)
            print(error.code)
        except Exception:
            failed = True
            traceback.print_exc()
    forget_runs()
    init_default_scope('mmaction')
    _check(int(failed), check, printed.getvalue())
    return printed.getvalue()


def fresh(script, *args, cwd, env=None, check=True):
    """:func:`call` in a process that knows nothing of this package yet."""
    script = str(script)
    code = f"""
import runpy, sys
sys.argv = {[script, *map(str, args)]}
sys.path.insert(0, {str(Path(script).parent)!r})
runpy.run_path({script!r}, run_name='__main__')
"""
    code, printed = run_code(code, cwd, env or {})
    _check(code, check, printed)
    return printed


def mmaction2(tool, *args, how=call, **kwargs):
    """Run a tool of MMAction2, such as ``'train'``, by :func:`call`.

    It is what ``mim train mmaction`` starts.
    """
    (script,) = MMACTION2_TOOLS.rglob(f'{tool}.py')
    return how(script, *args, **kwargs)


@lru_cache(maxsize=None)
def _read_config(name):
    return Config.fromfile(REPO / 'configs' / name)


def read_config(name):
    """One of our configs; it takes 0.2 s to read one."""
    return deepcopy(_read_config(name))


def _check(code, expected_to_work, printed):
    assert (code == 0) == expected_to_work, printed[-4000:]


# The versions that setup.py allows, beyond the newest
needs_numba = pytest.mark.skipif(
    find_spec('numba') is None, reason="needs the extra cpu: pip install '.[cpu]'"
)
needs_fast_paths = pytest.mark.skipif(
    not hasattr(torch.library, 'custom_op'),
    reason='torch < 2.4 has the reference path only',
)


def slow_but(quick, values):
    """Values of a parameter, of which `make test-fast` takes the quick ones."""
    return [
        value if value in quick else pytest.param(value, marks=pytest.mark.slow)
        for value in values
    ]


def exhaustive_but(usual, values):
    """The same for `make test`; all of them are in `make test-all`."""
    return [
        value if value in usual else pytest.param(value, marks=pytest.mark.exhaustive)
        for value in values
    ]


def samples(n):
    """Data samples of the classes 0, 1, ..."""
    return [ActionDataSample().set_gt_label(label) for label in range(n)]


def scores_of(samples):
    """Predicted scores, ``[N, classes]``."""
    return torch.stack([sample.pred_score for sample in samples])


def labels_of(samples):
    """Class numbers."""
    return [sample.gt_label.item() for sample in samples]


def count_attention(backbone):
    """How many attention layers a backbone has, with how many parameters."""
    layers = [layer for _, layer in attention_layers(backbone)]
    return len(layers), f'{sum(count_parameters(m) for m in layers):,}'


def count_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def check_readme_table(name, header, rows):
    """Compare a table of the docs, or write it if UPDATE_README is set."""
    table = ''.join(
        f'| {" | ".join(map(str, row))} |\n'
        for row in (header, ['---'] * len(header), *rows)
    )
    readme = REPO / 'docs' / 'backbones.md'
    before, start, rest = readme.read_text().partition(f'<!-- {name} -->\n')
    found, end, after = rest.partition(f'<!-- end of {name} -->')
    assert start and end, f'{readme} has no place for the table {name}'
    if os.environ.get('UPDATE_README'):
        readme.write_text(f'{before}{start}{table}{end}{after}')
    else:
        assert found == table


def stack_as_installed(folder):
    """Put mmaction2 and mmengine as pip installs them below ``folder``.

    They are made of links to the installed files, so writing into them does
    not touch the installation. To be used as PYTHONPATH.
    """
    for repair in all_repairs().values():
        for change in repair.on_disk:
            place = link_package(change.package, Path(change.path), folder)
            if change.is_made():
                place.unlink()
                if isinstance(change, Edit):
                    text = change.target().read_text()
                    place.write_text(text.replace(change.new, change.old))
    return folder


def link_package(name, inner, folder):
    """Link a package, with folders that are none down to ``inner``."""
    source, target = Path(find_spec(name).origin).parent, folder / name
    for part in ('', *inner.parent.parts):
        source, target = source / part, target / part
        if not source.exists():
            break
        if target.is_symlink():
            target.unlink()
        target.mkdir(exist_ok=True)
        for item in source.iterdir():
            link = target / item.name
            if item.name != '__pycache__' and not link.exists():
                link.symlink_to(item)
    return folder / name / inner


@pytest.fixture
def on_meta():
    """Networks of which names and shapes are all that counts."""
    with torch.device('meta'):
        yield


@pytest.fixture(scope='session')
def motion_pairs(tmp_path_factory):
    """A working directory with 24 + 8 motion-pairs videos below data/."""
    cwd = tmp_path_factory.mktemp('motion_pairs')
    run(
        sys.executable,
        REPO / 'tools/data/make_motion_pairs.py',
        'data/motion_pairs',
        '--num-train',
        24,
        '--num-test',
        8,
        cwd=cwd,
    )
    return cwd
