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
