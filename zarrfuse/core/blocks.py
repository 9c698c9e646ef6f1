"""Byte ranges to blocks: how an object is cut for the cache, and which pieces a range touches.

Pure arithmetic on half-open ranges. Knows no cache, no bucket and no configuration file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Block(NamedTuple):
    """The bytes [start, stop) of one object."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """How objects are cut: up to `whole_bytes` not at all, else every `block_bytes`."""

    block_bytes: int
    whole_bytes: int

    def __post_init__(self) -> None:
        if self.block_bytes < 1:
            raise ValueError(f"a block cannot have {self.block_bytes} bytes")

    def covering(self, size: int, start: int, stop: int) -> tuple[Block, ...]:
        """The blocks of an object of `size` bytes that [start, stop) touches, in order.

        The range is clipped at the object; none for an empty one.
        """
        start, stop = max(start, 0), min(stop, size)
        if start >= stop:
            return ()
        if size <= self.whole_bytes:
            return (Block(0, size),)
        step = self.block_bytes
        return tuple(
            Block(at, min(at + step, size)) for at in range(start - start % step, stop, step)
        )


#: A block of so few pieces is not cut: that would save less than a further request costs.
_FEW_PIECES = 4


@dataclass(frozen=True, slots=True)
class Pieces:
    """How a block of which little is wanted is cut again: every `piece_bytes` from its start."""

    piece_bytes: int

    def __post_init__(self) -> None:
        if self.piece_bytes < 1:
            raise ValueError(f"a piece cannot have {self.piece_bytes} bytes")

    def count(self, block: Block) -> int:
        """How many the block has; 1: it is not worth being cut."""
        count = -(-block.size // self.piece_bytes)
        return count if count > _FEW_PIECES else 1

    def touched(self, block: Block, start: int, stop: int) -> range:
        """The numbers of those that [start, stop) touches."""
        first = max(start, block.start) - block.start
        last = min(stop, block.stop) - block.start
        return range(first // self.piece_bytes, -(-last // self.piece_bytes))

    def piece(self, block: Block, number: int) -> Block:
        """One of them, a block itself."""
        start = block.start + number * self.piece_bytes
        return Block(start, min(start + self.piece_bytes, block.stop))


def runs(blocks: Iterable[Block], max_bytes: int) -> list[tuple[Block, ...]]:
    """Ordered blocks in groups without gaps, none over `max_bytes` unless it is a single block."""
    groups: list[list[Block]] = []
    for block in blocks:
        group = groups[-1] if groups else None
        if group and group[-1].stop == block.start and block.stop - group[0].start <= max_bytes:
            group.append(block)
        else:
            groups.append([block])
    return [tuple(group) for group in groups]
