"""What a shape and its strides decide: tiles, programs, offsets.

It is found once for each shape and layout. A step of training asks for it in
every layer, and the GPU must not wait for that.
"""

from functools import lru_cache
from itertools import accumulate
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import triton.language as tl

from ..reference import GateAxes
from . import kernels

# Most pixels per side of the tiles that are reduced: up to 64 x 64 the maps of
# H and W need no merging. Where the channels are innermost in memory, a tile
# has 16 of them, for whole sectors of memory, and room for fewer pixels.
SIDE, SIDE_CHANNELS_LAST = 64, 16
# Elements of a tile that is reduced over C
ELEMENTS = 4096
# Most programs of a gate: so many that they fill any device, and so few that
# each of them can add up what all others have found.
ROWS = 1024
# Maps that a program of the merging kernel makes
MERGED = 512
# Offsets from here on need 64 bits.
WIDE = 2**31

Tile = Dict[str, int]


class Launch(NamedTuple):
    """A kernel's programs, and those of its arguments that are known before."""

    programs: int
    arguments: Dict[str, Any]


class Reduction(NamedTuple):
    """From ``x`` to the maps of a group of gates."""

    launch: Launch
    length: int  # of the maps, with their parts where there are several tiles
    merges: List[Launch]  # of the parts


class Group(NamedTuple):
    """The inner gates, or the outer ones: one or three."""

    axes: str
    gates: slice  # among those of the layer
    length: int  # elements of all maps
    rows: int  # most programs of a gate, in all groups of the layer
    programs_of: Tuple[int, ...]  # each gate
    launch: Launch  # of the kernels that work on maps

    def __len__(self) -> int:
        return len(self.axes)


class Plan:
    """What all launches for one shape and layout have in common.

    Args:
        shape (tuple[int, ...]): N, C, T, H, W.
        x (tuple[int, ...]): Strides of ``x``.
        y (tuple[int, ...]): Of the output and the gradients.
    """

    def __init__(
        self, shape: Tuple[int, ...], x: Tuple[int, ...], y: Tuple[int, ...]
    ) -> None:
        self.shape = n, c, t, h, w = shape
        # The stride of an axis of one element says nothing.
        self.x, self.y = (
            tuple(s if size > 1 else 0 for size, s in zip(shape, strides))
            for strides in (x, y)
        )
        self.channels_last = self.x[1] == 1
        # [N, C, H, W], [N, T, C, W] and [N, T, C, H]
        self.base_h, self.base_w, maps = accumulate(
            (n * c * h * w, n * t * c * w, n * t * c * h)
        )
        # Three planes of maps, with their parts where there are several tiles
        ends = [3 * (2 * maps + n * c * t * h * w)]
        for strides in (self.x, self.y):
            ends.append(sum((size - 1) * s for size, s in zip(shape, strides)))
        self.int_type = tl.int64 if max(ends) >= WIDE else tl.int32
        # Arguments of all kernels that work on tiles of ``x``
        self.layout: Dict[str, Any] = dict(C=c, T=t, H=h, W=w, INT=self.int_type)
        for prefix, strides in (('X', self.x), ('Y', self.y)):
            for axis, stride in zip('NCTHW', strides):
                self.layout[prefix + axis] = stride
        self.reductions = {'C': self._reduce_c(), 'THW': self._reduce_thw()}
        self.product = self._product()
        self._groups: Dict[GateAxes, Tuple[Group, ...]] = {}

    def groups(self, axes: GateAxes) -> Tuple[Group, ...]:
        """The groups of gates of a layer, as far as it has them."""
        if axes not in self._groups:
            self._groups[axes] = self._new_groups(axes)
        return self._groups[axes]

    def _reduce_c(self) -> Reduction:
        """Tiles to reduce over C, long where memory is dense."""
        n, c, t, h, w = self.shape
        if self.channels_last:
            bc = _block(c, ELEMENTS // 8)
            bp = _block(h * w, ELEMENTS // bc)
        else:
            bp = _block(h * w, 64)
            # Few frames of few pixels: narrower, so that all of the device works
            while bp > 16 and n * t * _cdiv(h * w, bp) < 256:
                bp //= 2
            bc = _block(c, ELEMENTS // bp)
        length = n * t * h * w
        arguments = dict(
            self.layout,
            base_h=self.base_h,
            base_w=self.base_w,
            length=length,
            XP=self._pixel_stride(self.x),
            YP=self._pixel_stride(self.y),
            BC=bc,
            BP=bp,
            num_warps=_warps(bc * bp),
        )
        return Reduction(Launch(n * t * _cdiv(h * w, bp), arguments), length, [])

    def _reduce_thw(self) -> Reduction:
        """Tiles to reduce over T, H and W: all pixels of a frame, if possible."""
        n, c, t, h, w = self.shape
        side = SIDE_CHANNELS_LAST if self.channels_last else SIDE
        bh, bw = _block(h, side), _block(w, side)
        bc = _block(c, 16 if self.channels_last else 1024 // (bh * bw))
        tile = dict(BC=bc, BH=bh, BW=bw)
        # Where a frame has several tiles, their H and W maps come behind.
        length = self.base_w + n * t * c * h
        parts = []
        for base, size, blocks in (
            (self.base_h, n * t * c * w, _cdiv(h, bh)),
            (self.base_w, n * t * c * h, _cdiv(w, bw)),
        ):
            dest = base if blocks == 1 else length
            parts.append(dict(base=base, dest=dest, size=size, blocks=blocks))
            length += size * blocks if blocks > 1 else 0
        arguments = dict(
            self.layout,
            dest_h=parts[0]['dest'],
            dest_w=parts[1]['dest'],
            size_h=parts[0]['size'],
            size_w=parts[1]['size'],
            length=length,
            num_warps=_warps(bc * bh * bw),
            **tile,
        )
        merges = [
            Launch(
                _cdiv(part['size'], MERGED),
                dict(part, length=length, MERGED=MERGED, INT=self.int_type),
            )
            for part in parts
            if part['blocks'] > 1
        ]
        return Reduction(Launch(self._tiles(tile), arguments), length, merges)

    def _product(self) -> Launch:
        """Tiles of 1024 elements, as long as possible where memory is dense."""
        n, c, t, h, w = self.shape
        if self.channels_last:
            bc = _block(c, 64)
            bw = _block(w, 1024 // bc)
            bh = _block(h, 1024 // bc // bw)
        else:
            bw = _block(w, 64)
            bh = _block(h, 1024 // bw)
            bc = _block(c, 1024 // bw // bh)
        tile = dict(BC=bc, BH=bh, BW=bw)
        arguments = dict(self.layout, base_h=self.base_h, base_w=self.base_w, **tile)
        return Launch(self._tiles(tile), arguments)

    def _tiles(self, tile: Tile) -> int:
        n, c, t, h, w = self.shape
        blocks = _cdiv(c, tile['BC']), _cdiv(h, tile['BH']), _cdiv(w, tile['BW'])
        return n * blocks[0] * blocks[1] * blocks[2]

    def _pixel_stride(self, strides: Tuple[int, ...]) -> Optional[int]:
        """Of a frame whose pixels are one axis."""
        h, w = self.shape[3:]
        if w == 1:
            return strides[3]
        if h == 1 or strides[3] == w * strides[4]:
            return strides[4]
        return None

    def _new_groups(self, axes: GateAxes) -> Tuple[Group, ...]:
        n, c, t, h, w = self.shape
        sizes = dict(C=t * h * w, T=c * h * w, H=t * c * w, W=t * c * h)
        items = {a: n * _cdiv(sizes[a], kernels.BLOCK.value) for a in axes.all()}
        steps = {
            group: _cdiv(max(items[a] for a in group), ROWS) for group in axes if group
        }
        programs = {a: _cdiv(items[a], steps[g]) for g in steps for a in g}
        rows = max(programs.values())
        groups: List[Group] = []
        for group in steps:
            begin = axes.all().index(group)
            of_gates = tuple(programs[a] for a in group)
            arguments = dict(
                N=n,
                C=c,
                T=t,
                H=h,
                W=w,
                base_h=self.base_h,
                base_w=self.base_w,
                first=of_gates[0],
                second=sum(of_gates[:2]),
                steps=steps[group],
                rows=rows,
                GATES=len(group),
                INT=self.int_type,
            )
            groups.append(
                Group(
                    group,
                    slice(begin, begin + len(group)),
                    n * sum(sizes[a] for a in group),
                    rows,
                    of_gates,
                    Launch(sum(of_gates), arguments),
                )
            )
        return tuple(groups)


# A network has a few shapes, one that is tested at any size many.
plan_of = lru_cache(maxsize=1024)(Plan)


def power_of_two(size: int) -> int:
    """The next one, or itself."""
    return 1 << (size - 1).bit_length()


def _block(size: int, limit: int) -> int:
    return min(power_of_two(size), max(1, limit))


def _cdiv(size: int, block: int) -> int:
    return -(-size // block)


def _warps(elements: int) -> int:
    """8 elements per thread, so that sums, maxima and argmax stay in
    registers.
    """
    return max(4, min(16, elements // 256))
