"""What lies where in a shard: its index as byte ranges, from bytes back to inner chunks, and the
grid that the inner chunks of all shards make together.

Pure. Anybody may have written an index: an entry that does not fit the object counts as absent. The
index's own checksum is not looked at: a damaged one makes wrong guesses here, never wrong bytes.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from zarrfuse.core.blocks import Block
from zarrfuse.core.zarr.metadata import ArrayGrid, Shape, ShardLayout

#: An index of more is not taken in: 262 144 inner chunks, above what is of any use in one shard.
MAX_INDEX_BYTES = 4 << 20
#: Both numbers of an entry, where the inner chunk is absent (all fill values).
_ABSENT = 2**64 - 1
#: The kernel asks for whole pages, so that a read takes a little of the neighbours along.
PAGE_BYTES = 4096


class ShardIndex:
    """Where the inner chunks of one shard are. Numbers count them in C order."""

    __slots__ = ("_by_offset", "_numbers", "_offsets", "_stops", "mean_bytes")

    def __init__(self, entries: array[int], object_size: int) -> None:
        self._offsets, lengths = entries[0::2], entries[1::2]
        self._stops = array("Q", (0 for _ in lengths))
        for number, (offset, length) in enumerate(zip(self._offsets, lengths, strict=True)):
            if offset != _ABSENT and length and offset + length <= object_size:
                self._stops[number] = offset + length
        present = (number for number, stop in enumerate(self._stops) if stop)
        self._numbers = array("L", sorted(present, key=self._offsets.__getitem__))
        self._by_offset = array("Q", (self._offsets[number] for number in self._numbers))
        sizes = (self._stops[number] - self._offsets[number] for number in self._numbers)
        #: Of the inner chunks that are there; 1 if none is.
        self.mean_bytes = max(1, sum(sizes) // max(1, len(self._numbers)))

    @property
    def memory_bytes(self) -> int:
        return 32 * len(self._offsets)

    def range_of(self, number: int) -> Block | None:
        """The bytes of an inner chunk; None where there is nothing to read."""
        if not 0 <= number < len(self._offsets) or not self._stops[number]:
            return None
        return Block(self._offsets[number], self._stops[number])

    def wanted_by(self, start: int, stop: int) -> int | None:
        """The inner chunk for which a program reads [start, stop), a range of whole pages.

        It begins on the first page, or before it, where the kernel has its first page already; what
        begins later the kernel reads ahead. None between chunks.
        """
        at = bisect_left(self._by_offset, start)
        before = self._part(at - 1, start, stop) if at else 0
        first = self._part(at, start, stop) if at < len(self._numbers) else 0
        if not before:
            return self._numbers[at] if first else None
        number = self._numbers[at - 1]
        size = self._stops[number] - self._offsets[number]
        head_is_known = start - self._offsets[number] < PAGE_BYTES and size >= 2 * PAGE_BYTES
        later = not first or self._by_offset[at] - start >= PAGE_BYTES
        return number if head_is_known or later or before >= first else self._numbers[at]

    def _part(self, at: int, start: int, stop: int) -> int:
        """How much of [start, stop) is of the chunk at that place in the file."""
        end = min(stop, self._stops[self._numbers[at]])
        return max(0, end - max(start, self._by_offset[at]))

    def covered(self, start: int, stop: int) -> int:
        """How many inner chunks lie wholly in [start, stop)."""
        first = bisect_left(self._by_offset, start)
        beyond = bisect_right(self._by_offset, stop)
        while beyond > first and self._stops[self._numbers[beyond - 1]] > stop:
            beyond -= 1
        return beyond - first


@dataclass(frozen=True, slots=True)
class InnerGrid:
    """The inner chunks of all shards as one grid of `shape`, `per_shard` of them in each."""

    shape: Shape
    per_shard: Shape

    @classmethod
    def of(cls, grid: ArrayGrid, layout: ShardLayout) -> InnerGrid:
        pairs = tuple(zip(grid.shape, grid.chunks, layout.inner, strict=True))
        return cls(
            tuple(-(-length // inner) for length, _, inner in pairs),
            tuple(shard // inner for _, shard, inner in pairs),
        )

    def index(self, shard: Shape, number: int) -> Shape:
        """The place in the whole grid of the inner chunk `number` of a shard."""
        inside = []
        for count in reversed(self.per_shard):
            number, at = divmod(number, count)
            inside.append(at)
        return tuple(
            at * count + below
            for at, count, below in zip(shard, self.per_shard, reversed(inside), strict=True)
        )

    def place(self, index: Shape) -> tuple[Shape, int]:
        """The shard that holds an inner chunk, and its number in there."""
        shard, number = [], 0
        for at, count in zip(index, self.per_shard, strict=True):
            outer, inside = divmod(at, count)
            shard.append(outer)
            number = number * count + inside
        return tuple(shard), number


def parse_index(layout: ShardLayout, data: bytes, object_size: int) -> ShardIndex | None:
    """The index from the bytes of its range; None if they are not as many as it must have."""
    if layout.index_bytes is None or len(data) != layout.index_bytes:
        return None
    entries = array("Q", data[: 16 * layout.count])
    if sys.byteorder == "big":
        entries.byteswap()
    return ShardIndex(entries, object_size)


def joined(ranges: Iterable[Block], *, gap_bytes: int, max_bytes: int) -> list[Block]:
    """Ranges of one object, in the order of its bytes, neighbours up to `gap_bytes` apart as one.

    None is over `max_bytes`, unless a single range is.
    """
    found: list[Block] = []
    for one in sorted(ranges):
        last = found[-1] if found else None
        if (
            last is not None
            and one.start - last.stop <= gap_bytes
            and one.stop - last.start <= max_bytes
        ):
            found[-1] = Block(last.start, max(last.stop, one.stop))
        else:
            found.append(one)
    return found
