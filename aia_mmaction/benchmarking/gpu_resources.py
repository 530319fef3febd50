"""What the compiler for CUDA gives the kernels of a layer, found without a GPU."""

import re
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Set, Tuple
from unittest.mock import patch

import torch
from torch import Tensor

from aia_mmaction.ops import LAYERS, GateAxes
from aia_mmaction.ops.clips import to_clips
from aia_mmaction.ops.parameters import Parameters
from aia_mmaction.ops.specification import Specification

from .timing import Row

# Registers and shared memory are of a multiprocessor.
REGISTERS = 65536
POINTERS = {
    torch.float32: '*fp32',
    torch.float16: '*fp16',
    torch.bfloat16: '*bf16',
    torch.int32: '*i32',
}


class Case(NamedTuple):
    """A layer's pass forward and backward, for an architecture."""

    axes: GateAxes
    x: Tensor  # [N, C, T, H, W]; only shape, strides and dtype matter
    training: bool  # with a ReLU behind; or evaluation, without
    architecture: int  # 90 for sm_90


def compile_kernels(cases: Sequence[Case]) -> List[Row]:
    """One row for each kernel as it is compiled for the cases.

    Args:
        cases (Sequence[Case]): Nothing of them is computed.

    Returns:
        list[Row]: ``kernel``, ``architecture``, ``warps``, ``registers`` of a
        thread, ``shared`` memory of a program in bytes, and ``stack``, bytes of a
        thread that did not fit into registers.
    """
    from aia_mmaction.ops.triton import attention

    rows: List[Row] = []
    seen: Set[str] = set()
    for axes, x, training, architecture in cases:
        gates = len(axes.all())
        stats = None if training else torch.ones(gates, 2)
        weight = torch.ones(gates, 2, 3, 3, 3)
        given = Parameters(weight, torch.ones(gates), torch.ones(gates), stats)
        spec = Specification(*axes, 0, 1e-5, batch_stats=training, relu=training)
        instead = partial(_compile_once, rows, seen, architecture)
        with patch.object(attention, '_launch', instead):
            _, used, saved = attention.forward(x, given, spec, True)
            given = given._replace(stats=used)
            attention.backward(x, x, None, given, spec, saved)
    return rows


def cases_of(
    names: Sequence[str],
    maps: Sequence[Tuple[int, int]],
    num_segments: int,
    architectures: Sequence[int],
) -> List[Case]:
    """Training in float16, NCHW and channels_last.

    Args:
        names (Sequence[str]): Layers.
        maps (Sequence[tuple[int, int]]): Channels, and side in pixels.
        num_segments (int): Frames per clip.
        architectures (Sequence[int]): Of GPUs.
    """
    cases = []
    for name in names:
        for channels, side in maps:
            for layout in torch.contiguous_format, torch.channels_last:
                shape = 2 * num_segments, channels, side, side
                x = torch.empty(shape, dtype=torch.float16, memory_format=layout)
                clips = to_clips(x, num_segments)
                for architecture in architectures:
                    cases.append(Case(LAYERS[name], clips, True, architecture))
    return cases


def summarise(rows: Sequence[Row]) -> List[Row]:
    """The most that each kernel takes on each architecture."""
    architectures = sorted({row['architecture'] for row in rows})
    table: List[Row] = []
    for kernel in dict.fromkeys(row['kernel'] for row in rows):
        summary: Row = dict(kernel=kernel)
        for what in ('registers', 'shared', 'stack'):
            for architecture in architectures:
                key = kernel, architecture
                of_kernel = [
                    r[what] for r in rows if (r['kernel'], r['architecture']) == key
                ]
                summary[f'{what} sm_{architecture}'] = max(of_kernel, default=None)
        table.append(summary)
    return table


def _compile_once(
    rows: List[Row],
    seen: Set[str],
    architecture: int,
    kernel: Any,
    programs: int,
    /,  # kernels have a `rows`, too
    **arguments: Any,
) -> None:
    """Instead of a launch."""
    source, options, key = _source(kernel, arguments)
    key = f'{architecture} {key}'
    if key not in seen:
        seen.add(key)
        row: Row = dict(kernel=kernel.__name__, architecture=architecture)
        rows.append({**row, **_compile(source, options, architecture)})


def _source(kernel: Any, arguments: Dict[str, Any]) -> Tuple[Any, Dict[str, Any], str]:
    """What a launch would compile."""
    from triton.compiler import ASTSource

    options = dict(num_warps=arguments.get('num_warps', 4))
    signature: Dict[str, str] = {}
    constants: Dict[str, Any] = {}
    attributes: Dict[Tuple[int, ...], Any] = {}
    for i, parameter in enumerate(kernel.params):
        name = parameter.name
        value = arguments[name]
        # As at a launch: None and 1 are constants, and 16 is noticed.
        number = value.data_ptr() if isinstance(value, Tensor) else value
        if parameter.is_constexpr or number is None or number == 1:
            signature[name], constants[name] = 'constexpr', value
            continue
        signature[name] = _type_of(value)
        if not isinstance(value, float) and number % 16 == 0:
            attributes[(i,)] = [['tt.divisibility', 16]]
    key = repr((kernel.__name__, signature, constants, attributes, options))
    return ASTSource(kernel, signature, constants, attributes), options, key


def _type_of(value: Any) -> str:
    if isinstance(value, Tensor):
        return POINTERS[value.dtype]
    return 'fp32' if isinstance(value, float) else 'i32'


def _compile(source: Any, options: Dict[str, Any], architecture: int) -> Row:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import compile

    binary = compile(source, GPUTarget('cuda', architecture, 32), options)
    usage = _resource_usage(binary.asm['cubin'])
    return dict(
        warps=options['num_warps'],
        registers=int(re.findall(r'REG:(\d+)', usage)[0]),
        shared=binary.metadata.shared,
        stack=int(re.findall(r'STACK:(\d+)', usage)[0]),
    )


def _resource_usage(cubin: bytes) -> str:
    import triton

    (tool,) = Path(triton.__file__).parent.glob('**/cuobjdump')
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), '-res-usage', file.name]
        return subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout
