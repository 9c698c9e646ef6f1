"""How programs read the shards of sharded arrays: whole, or an inner chunk at a time.

Keeps the indexes that have passed through, by version, and what was read of each shard lately; asks
for no bytes and plans nothing.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum, auto

from cachetools import LRUCache

from zarrfuse.core.blocks import Block
from zarrfuse.core.keys import ObjectMeta
from zarrfuse.core.zarr.metadata import ShardLayout, shard_index_range
from zarrfuse.core.zarr.shards import MAX_INDEX_BYTES, PAGE_BYTES, ShardIndex, parse_index

#: Up to this size a shard is fetched whole, like a chunk: the index and one inner chunk would be
#: two requests in turn, and at 1 Gbit/s 1 MiB takes 8 ms.
SMALL_BYTES = 1 << 20
#: Memory for indexes.
_INDEX_MEMORY_BYTES = 16 << 20
#: Shards of which it is remembered how they are read.
_MAX_SHARDS = 4096
#: The first read of a file by the kernel is up to four times what was asked for (measured: 16 KiB
#: for an index of 1 KiB; from 32 KiB on less).
_FIRST_READ_FACTOR = 4
#: Who has read so many pieces on end, over as many inner chunks, reads the shard on and on.
_ON_END = 4
#: Pieces of a shard that may be out of order, or read at the same time.
_MAX_RUNS = 8

Version = tuple[str, str]


class How(Enum):
    """For what a program reads a range of a shard."""

    WHOLE = auto()
    INDEX = auto()
    INNER = auto()
    #: An inner chunk, but which of them is not known without the index.
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Reading:
    """`number`: the inner chunk, None between chunks; `begins`: it is the first of a selection;
    `ahead`: what follows in the shard, for one who seems to read all of it."""

    how: How
    number: int | None = None
    begins: bool = False
    ahead: Block | None = None


@dataclass(slots=True)
class _Run:
    """Bytes that were read on end, by so many pieces, and up to where it was asked for more."""

    start: int
    stop: int
    pieces: int = 1
    fetched: int = 0


@dataclass(slots=True)
class _State:
    """Of one version of a shard. `opens`: since the last read of an inner chunk."""

    opens: int = 0
    begins: bool = True
    index_read: bool = False
    whole: bool = False
    runs: list[_Run] = field(default_factory=list)


class Shards:
    """Thread-safe; the lock is a leaf."""

    def __init__(self, *, ahead_bytes: int) -> None:
        """Who reads on is at most `ahead_bytes` ahead."""
        self._ahead_bytes = ahead_bytes
        self._lock = threading.Lock()
        self._states: LRUCache[Version, _State] = LRUCache(_MAX_SHARDS)
        self._indexes: LRUCache[Version, ShardIndex] = LRUCache(
            _INDEX_MEMORY_BYTES, getsizeof=lambda index: index.memory_bytes
        )

    def opened(self, meta: ObjectMeta) -> None:
        """A program opened the object. zarr-python does for the index, and for each inner chunk."""
        with self._lock:
            state = self._states.get((meta.key, meta.etag))
            if state is not None:
                state.opens += 1

    def index(self, meta: ObjectMeta) -> ShardIndex | None:
        """If it has passed through."""
        with self._lock:
            return self._indexes.get((meta.key, meta.etag))

    def learn(self, layout: ShardLayout, meta: ObjectMeta, start: int, data: bytes) -> None:
        """Takes the index, if it is not known, from what was read at `start`."""
        span = index_range(layout, meta)
        if span is None or not (start <= span.start and span.stop <= start + len(data)):
            return
        if self.index(meta) is None:
            part = data[span.start - start : span.stop - start]
            index = parse_index(layout, part, meta.size)
            if index is not None:
                with self._lock:
                    self._indexes[meta.key, meta.etag] = index

    def seen(self, layout: ShardLayout, meta: ObjectMeta, start: int, stop: int) -> Reading:
        """A program reads [start, stop) of a shard: for what."""
        span = index_range(layout, meta)
        if span is None:
            return Reading(How.WHOLE)
        index = self.index(meta)
        with self._lock:
            state = self._states.setdefault((meta.key, meta.etag), _State())
            if _is_index(span, start, stop):
                state.index_read = state.begins = True
                state.whole = False
                return Reading(How.INDEX)
            if start == 0 and not state.index_read:  # who wants a part asks for the index first
                state.whole = True
            if state.whole:
                return Reading(How.WHOLE)
            if index is None:
                return Reading(How.UNKNOWN)
            ahead = self._onward(state, index, Block(start, stop), meta.size)
            begins = state.begins or state.opens > 1
            state.opens, state.begins = 0, False
        return Reading(How.INNER, index.wanted_by(start, stop), begins, ahead)

    def _onward(self, state: _State, index: ShardIndex, piece: Block, size: int) -> Block | None:
        """What to fetch ahead where the shard is read on and on: as far as the reader came, so that
        no more is wasted than was read if it stops."""
        run = _extended(state.runs, piece)
        came = run.stop - run.start
        if run.pieces < _ON_END or index.covered(run.start, run.stop) < _ON_END:
            return None
        begin, end = max(run.fetched, run.stop), min(run.stop + min(came, self._ahead_bytes), size)
        if end <= begin or end - begin < min(came // 2, size - begin):
            return None  # small steps would be many small requests
        run.fetched = end
        return Block(begin, end)


def index_range(layout: ShardLayout, meta: ObjectMeta) -> Block | None:
    """Where the index is, if the shard is one that is read by ranges."""
    span = shard_index_range(layout, meta.size)
    if meta.size <= SMALL_BYTES or span is None or span[1] - span[0] > MAX_INDEX_BYTES:
        return None
    return Block(*span)


def _is_index(span: Block, start: int, stop: int) -> bool:
    """Whether a read of whole pages is one of the index."""
    if span.start:
        return start > span.start - PAGE_BYTES
    return (
        start < span.stop and stop <= _FIRST_READ_FACTOR * -(-span.stop // PAGE_BYTES) * PAGE_BYTES
    )


def _extended(runs: list[_Run], piece: Block) -> _Run:
    """The run that goes on with this piece, or a new one; the last in `runs`.

    The kernel asks for several pieces at the same time, so that the next one may have come before.
    """
    run = _Run(piece.start, piece.stop, fetched=piece.stop)
    before = next((r for r in runs if abs(r.stop - piece.start) <= PAGE_BYTES), None)
    if before is not None:
        runs.remove(before)
        run = _Run(before.start, piece.stop, before.pieces + 1, before.fetched)
        after = next((r for r in runs if abs(r.start - piece.stop) <= PAGE_BYTES), None)
        if after is not None:
            runs.remove(after)
            run = _Run(run.start, after.stop, run.pieces + after.pieces, run.fetched)
    runs.append(run)
    del runs[:-_MAX_RUNS]
    return run
