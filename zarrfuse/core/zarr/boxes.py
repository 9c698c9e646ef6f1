"""Boxes of a chunk grid: which chunks hold some positions, and their keys in key order. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zarrfuse.core.zarr.keys import key_of
from zarrfuse.core.zarr.metadata import ArrayGrid

#: Half-open.
Range = tuple[int, int]

#: Whoever walks through a box of more chunks is busy for minutes, and sees few that exist: an array
#: of so many objects is not what anybody stores, but what a few bytes of metadata may say.
MAX_COUNT = 10**7


@dataclass(frozen=True, slots=True)
class Box:
    """Chunks (or shards) of one array: along each axis those of its range, inside of the grid."""

    grid: ArrayGrid
    ranges: tuple[Range, ...]

    @property
    def count(self) -> int:
        """Number of chunks."""
        return math.prod(stop - start for start, stop in self.ranges)

    def in_key_order(self) -> Iterator[str]:
        """The chunks' keys below the array, in the order of listings, without holding them all:
        "." and "/" sort before digits, so that each axis is sorted as text by itself."""
        if not self.count:  # else a long axis is walked in vain beside an empty one
            return iter(())
        return (key_of(self.grid, index) for index in _in_text_order(self.ranges))


def box_of(grid: ArrayGrid, positions: Sequence[Range]) -> Box:
    """The chunks that hold the positions [start, stop) of each axis, which lie in the array."""
    ranges = [
        (start // step, -(-stop // step)) if start < stop else (0, 0)
        for (start, stop), step in zip(positions, grid.chunks, strict=True)
    ]
    return Box(grid, tuple(ranges))


def _in_text_order(ranges: Sequence[Range]) -> Iterator[tuple[int, ...]]:
    if not ranges:
        yield ()
        return
    for first in _numbers(*ranges[0]):
        for rest in _in_text_order(ranges[1:]):
            yield (first, *rest)


def _numbers(start: int, stop: int) -> Iterator[int]:
    """Those of [start, stop), sorted as text: each, then those whose text begins with its own."""
    if start <= 0 < stop:
        yield 0
    left = [value for value in range(9, 0, -1) if _begins_any(value, start, stop)]
    while left:
        value = left.pop()
        if start <= value < stop:
            yield value
        if value * 10 < stop:
            longer = range(value * 10 + 9, value * 10 - 1, -1)
            left += (value for value in longer if _begins_any(value, start, stop))


def _begins_any(value: int, start: int, stop: int) -> bool:
    """Whether the text of a number of [start, stop) begins with that of `value`."""
    low, high = value, value + 1
    while low < stop:
        if high > start:
            return True
        low, high = low * 10, high * 10
    return False
