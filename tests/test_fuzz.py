"""Files that were cut off or changed: an error that names them, or a result;
never a hang, another error, or half an output.
"""

import itertools
import random
import time

import pytest
import torch

from aia_mmaction.conversion.files import FileError, read_checkpoint
from aia_mmaction.datasets.list_file import ListFileError, read_list
from aia_mmaction.datasets.preparation import annotations
from aia_mmaction.evaluation.dumps import DumpError, load_dump

from .conftest import exhaustive_but
from .evaluation.test_dumps import make_dump
from .tools.test_convert_official_checkpoint import shell_of
from .tools.test_prepare import (
    make_diving48,
    make_egtea,
    make_sthv1,
    make_sthv2,
    prepare,
)

SECONDS = 10  # per test; a single file must take less than that
PIECES = [
    b'',
    b'\0',
    b'\xff',
    b'"',
    b'{',
    b'[]',
    b'null',
    b'-1',
    b'1e999',
    b'../',
    b'\n',
    b';',
    b'9' * 30,
    b'\x80\x02',
    b'NaN',
]


def mutants(content, seed):
    """Endless variations of some bytes."""
    rng = random.Random(seed)
    while True:
        changed = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            start, end = sorted(rng.choices(range(len(changed) + 1), k=2))
            how = rng.randrange(5)
            if how == 0:  # cut off
                del changed[start:]
            elif how == 1:  # left out
                del changed[start : min(end, start + 20)]
            elif how == 2:  # twice
                changed[start:start] = changed[start:end]
            elif how == 3:  # replaced
                changed[start : start + rng.randint(0, 4)] = rng.choice(PIECES)
            elif changed:  # a bit
                changed[min(start, len(changed) - 1)] ^= 1 << rng.randrange(8)
        yield bytes(changed)


def fuzz(path, read, errors, seed=0):
    """Read variations of a file; return how many were read and refused."""
    content = path.read_bytes()
    read(path)
    counts = [0, 0]
    end = time.monotonic() + SECONDS
    for changed in itertools.islice(mutants(content, seed), 2000):
        if time.monotonic() > end:
            break
        path.write_bytes(changed)
        start = time.monotonic()
        try:
            read(path)
            counts[0] += 1
        except errors as error:
            assert path.name in str(error), error
            counts[1] += 1
        assert time.monotonic() - start < SECONDS
    path.write_bytes(content)
    assert counts[1] > 20, counts  # it was worth it
    return counts


def test_dumps(tmp_path):
    path = make_dump(
        tmp_path / 'pred.pkl', ['a', 'b'], [[0.7, 0.3], [0.1, 0.9]], [0, 1]
    )
    fuzz(path, load_dump, DumpError)


@pytest.mark.parametrize('zipped', exhaustive_but([True], [True, False]))
def test_checkpoints_to_convert(tmp_path, zipped):
    path = tmp_path / 'authors.pth'
    torch.save(
        dict(state_dict=dict(list(shell_of('CinST').items())[:9])),
        path,
        _use_new_zipfile_serialization=zipped,
    )
    fuzz(path, read_checkpoint, FileError)


BENCHMARKS = {
    'sthv1': make_sthv1,
    'sthv2': make_sthv2,
    'diving48': make_diving48,
    'egtea': make_egtea,
}


def annotation_files(source):
    return sorted(p for p in source.rglob('*') if p.suffix in ('.csv', '.json', '.txt'))


@pytest.mark.slow
@pytest.mark.parametrize('benchmark', BENCHMARKS)
def test_annotations(tmp_path, benchmark):
    BENCHMARKS[benchmark](tmp_path)
    options = ['mmaction2'] if benchmark.startswith('sth') else []
    for seed, path in enumerate(annotation_files(tmp_path)):
        content = path.read_bytes()
        for changed in itertools.islice(mutants(content, seed), 300):
            path.write_bytes(changed)
            try:
                getattr(annotations, benchmark)(tmp_path, *options)
            except annotations.AnnotationError as error:
                assert tmp_path.name in str(error), error
        path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize('benchmark', BENCHMARKS)
def test_prepare(tmp_path, benchmark):
    """Lists are those of before, or of what can be read."""
    source = tmp_path / 'raw'
    BENCHMARKS[benchmark](source)
    prepare(benchmark, 'raw', tmp_path)
    target = tmp_path / 'data' / benchmark
    lists = {p.name for p in target.glob('*_list_*.txt')} | {
        p.name for p in target.glob('*_split_*.txt')
    }
    rng = random.Random(0)
    files = [p for p in source.rglob('*') if p.is_file()]
    for seed in range(12):
        path = rng.choice(annotation_files(source) if seed % 2 else files)
        content = path.read_bytes()
        path.write_bytes(next(mutants(content, seed)))
        try:
            prepare(benchmark, 'raw', tmp_path)
        except SystemExit as error:
            assert len(str(error).splitlines()) == 1, error
        path.write_bytes(content)
        for name in lists:
            for line in (target / name).read_text().splitlines():
                assert len(line.split()) in (1, 2, 3), (name, line)
        left = [p.name for p in target.iterdir() if 'draft' in p.name]
        assert not left
    prepare(benchmark, 'raw', tmp_path)


def test_lists(tmp_path):
    path = tmp_path / 'list.txt'
    path.write_text(''.join(f'{i}.webm {i % 3}\n' for i in range(20)))
    content = path.read_bytes()
    for changed in itertools.islice(mutants(content, 0), 500):
        path.write_bytes(changed)
        try:
            assert all(entry.name for entry in read_list(str(path)))
        except ListFileError as error:
            assert path.name in str(error)
