"""Boxes of a chunk grid: which chunks hold some positions, and their keys in key order. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zarrfuse.core.zarr.keys import key_of
from zarrfuse.core.zarr.metadata import ArrayGrid

#: Half-open.
Range = tuple[int, int]


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
        axes = [sorted(range(*one), key=str) for one in self.ranges]
        return (key_of(self.grid, index) for index in itertools.product(*axes))


def box_of(grid: ArrayGrid, positions: Sequence[Range]) -> Box:
    """The chunks that hold the positions [start, stop) of each axis, which lie in the array."""
    ranges = [
        (start // step, -(-stop // step)) if start < stop else (0, 0)
        for (start, stop), step in zip(positions, grid.chunks, strict=True)
    ]
    return Box(grid, tuple(ranges))
