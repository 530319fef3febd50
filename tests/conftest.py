import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmaction.structures import ActionDataSample
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope, init_default_scope

from aia_mmaction.backbones import attention_layers

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def clean_mmengine():
    """The default scope of MMAction2, and nothing left of earlier runs."""
    MessageHub._instance_dict.clear()
    DefaultScope._instance_dict.clear()
    MMLogger._instance_dict.clear()
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
    if check:
        assert done.returncode == 0, done.stdout[-4000:]
    else:
        assert done.returncode != 0, done.stdout[-4000:]
    return done.stdout


def mim(*args, cwd, check=True):
    return run(sys.executable, '-m', 'mim', *args, cwd=cwd, check=check)


# The versions that setup.py allows, beyond the newest
needs_fast_paths = pytest.mark.skipif(
    not hasattr(torch.library, 'custom_op'),
    reason='torch < 2.4 has the reference path only',
)
needs_mmaction_1_2 = pytest.mark.skipif(
    not hasattr(ActionDataSample, 'set_gt_label'),
    reason='MMAction2 1.1 calls predictions and labels otherwise',
)


def samples(n):
    """Data samples of the classes 0, 1, ..."""
    name = (
        'set_gt_label' if hasattr(ActionDataSample, 'set_gt_label') else 'set_gt_labels'
    )
    return [getattr(ActionDataSample(), name)(label) for label in range(n)]


def scores_of(samples):
    """Predicted scores, ``[N, classes]``."""
    return torch.stack(
        [
            s.pred_score if hasattr(s, 'pred_score') else s.pred_scores.item
            for s in samples
        ]
    )


def labels_of(samples):
    """Class numbers."""
    return [
        (s.gt_label if hasattr(s, 'gt_label') else s.gt_labels.item).item()
        for s in samples
    ]


def count_attention(backbone):
    """How many attention layers a backbone has, with how many parameters."""
    layers = [layer for _, layer in attention_layers(backbone)]
    return len(layers), f'{sum(count_parameters(m) for m in layers):,}'


def count_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def check_readme_table(name, header, rows):
    """Compare a table of the README, or write it if UPDATE_README is set."""
    table = ''.join(
        f'| {" | ".join(map(str, row))} |\n'
        for row in (header, ['---'] * len(header), *rows)
    )
    readme = REPO / 'README.md'
    before, start, rest = readme.read_text().partition(f'<!-- {name} -->\n')
    found, end, after = rest.partition(f'<!-- end of {name} -->')
    assert start and end, f'the README has no place for the table {name}'
    if os.environ.get('UPDATE_README'):
        readme.write_text(f'{before}{start}{table}{end}{after}')
    else:
        assert found == table


def stack_as_installed(folder):
    """Put mmaction2 and mmengine as pip installs them below ``folder``.

    They are made of links to the installed files, so writing into them does
    not touch the installation. To be used as PYTHONPATH.
    """
    localizers = link_package('mmaction', 'models/localizers', folder)
    (localizers / 'drn').unlink(missing_ok=True)
    utils = link_package('mmengine', 'config', folder) / 'utils.py'
    text = utils.read_text()
    utils.unlink()
    utils.write_text(
        ''.join(
            line
            for line in text.splitlines(keepends=True)
            if 'aia_mmaction' not in line
        )
    )
    return folder


def link_package(name, inner, folder):
    """Link a package, down to a folder of it, whose files are linked."""
    source, target = Path(find_spec(name).origin).parent, folder / name
    for part in ('', *Path(inner).parts):
        source, target = source / part, target / part
        if target.is_symlink():
            target.unlink()
        target.mkdir()
        for item in source.iterdir():
            if item.name != '__pycache__':
                (target / item.name).symlink_to(item)
    return target


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
