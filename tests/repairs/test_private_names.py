"""What is not public of other packages is listed, and there."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmengine.hooks import CheckpointHook

import aia_mmaction
from aia_mmaction.layers import CinST
from aia_mmaction.ops import dispatch, recompute
from aia_mmaction.repairs import checkpoints, log_doubts, private_names
from aia_mmaction.repairs.private_names import MARKS, PRIVATE_NAMES

from ..conftest import needs_fast_paths

FILES = sorted(Path(aia_mmaction.__path__[0]).rglob('*.py'))
NAMES = {name for entry in PRIVATE_NAMES for name in entry.names} | set(MARKS)
OWNERS = ' '.join(e.owner for e in PRIVATE_NAMES if isinstance(e.owner, str))
LISTED = NAMES | set(re.findall(r'\b_\w+', OWNERS))
# Of Python: its documented names of named tuples, and what it has in C, too
OF_PYTHON = {'_fields', '_replace', '_asdict', '_Unpickler', '_getframe'}
ACCESSORS = {'getattr', 'setattr', 'hasattr', 'delattr', 'object'}


def is_private(name):
    return name.startswith('_') and not name.startswith('__') and len(name) > 1


def defined(tree):
    """Private names that a file defines, once for each definition."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ('self', 'cls'):
                yield node.attr


def used(tree):
    """Private names that a file uses, and whether of the class that it extends."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            of_super = isinstance(node.value, ast.Call) and (
                getattr(node.value.func, 'id', '') == 'super'
            )
            yield node.attr, of_super
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((a.name, False) for a in node.names if is_private(a.name))
        elif isinstance(node, ast.Call) and len(node.args) > 1:
            name, text = getattr(node.func, 'id', ''), node.args[1]
            if name in ACCESSORS and isinstance(text, ast.Constant):
                if is_private(str(text.value)):
                    yield text.value, False


def foreign():
    """Private names of other packages, with the files that use them."""
    trees = {path: ast.parse(path.read_text()) for path in FILES}
    ours = Counter(name for tree in trees.values() for name in defined(tree))
    for path, tree in trees.items():
        for name, of_super in used(tree):
            # A method that is extended is ours if more than one class has it.
            if name not in OF_PYTHON and ours[name] <= of_super:
                yield name, path.name


def test_every_private_name_is_listed():
    unlisted = {(name, file) for name, file in foreign() if name not in LISTED}
    assert not unlisted, 'list them in aia_mmaction/repairs/private_names.py'


def test_every_listed_name_is_used():
    # Names in tuples are no accesses of their own.
    text = ''.join(f.read_text() for f in FILES if f.name != 'private_names.py')
    assert not [name for name in NAMES if not re.search(rf'\b{name}\b', text)]


@pytest.mark.parametrize(
    'entry', PRIVATE_NAMES, ids=[','.join(entry.names) for entry in PRIVATE_NAMES]
)
def test_every_listed_name_is_there(entry):
    if entry.only:
        newer = entry.only.split()[-1]
        if torch.__version__ >= newer:
            pytest.skip(f'only {entry.only} needs it')
    assert not entry.missing()


def test_what_is_gone_is_said(monkeypatch, capfd):
    assert not list(private_names.find_gone())
    monkeypatch.delattr(CheckpointHook, '_save_best_checkpoint')
    (problem,) = private_names.find_gone()
    assert problem.what.startswith('no _save_best_checkpoint, for deleting')
    log_doubts()
    log = ''.join(capfd.readouterr())
    assert 'no _save_best_checkpoint, for deleting the oldest' in log
    assert 'a run that is killed may lose both' in log


class TestWithout:
    """What becomes of it is what the list says."""

    def train(self):
        layer = CinST(num_segments=2)
        x = torch.randn(4, 3, 5, 6, requires_grad=True)
        layer(torch.nn.BatchNorm2d(3)(x)).sum().backward()
        assert x.grad is not None

    def test_hooks(self):
        module = torch.nn.Module()
        assert not dispatch.has_hooks(module)
        del module._backward_pre_hooks
        assert dispatch.has_hooks(module)

    @needs_fast_paths
    def test_saved_tensors(self, monkeypatch):
        monkeypatch.setattr(
            recompute, '_NORMS', {'NativeBatchNormBackward0': '_saved_gone'}
        )
        recompute._warn.cache_clear()
        with pytest.warns(UserWarning, match='saves the input of attention layers'):
            self.train()

    def test_transforms(self, monkeypatch):
        monkeypatch.delattr(torch._C._functorch, 'peek_interpreter_stack')
        monkeypatch.delattr(torch.autograd.forward_ad, '_current_level')
        assert not dispatch._is_transformed()

    def test_checkpoint_hook(self, monkeypatch):
        for name in ('_save_checkpoint_with_step', '_save_best_checkpoint'):
            monkeypatch.delattr(CheckpointHook, name)
        monkeypatch.setattr('mmengine.fileio.LocalBackend.put', None)
        monkeypatch.setattr('mmengine.runner.runner.find_latest_checkpoint', None)
        checkpoints.REPAIR.mend()
