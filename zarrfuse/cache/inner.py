"""Fetches the inner chunks of shards that a reader will ask for next.

Watches reads of sharded arrays; cache/shards says what they are for, core/access and
core/zarr/selections what follows, and the shard's index where that lies.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from zarrfuse.cache.ahead import Fetching, Reads
from zarrfuse.cache.arrays import Place
from zarrfuse.cache.shards import SMALL_BYTES, How, Shards, index_range
from zarrfuse.config import MIB, Prefetch
from zarrfuse.core.access import Readers, observe
from zarrfuse.core.blocks import Block
from zarrfuse.core.keys import Key, ObjectMeta, Prefix
from zarrfuse.core.zarr.metadata import ArrayGrid, Shape, ShardLayout
from zarrfuse.core.zarr.selections import Selections
from zarrfuse.core.zarr.shards import InnerGrid, ShardIndex, joined
from zarrfuse.store.limit import in_background

#: Arrays whose readers are remembered.
_MAX_ARRAYS = 4096
#: Neighbours are fetched in requests of up to this: at 1 Gbit/s it takes 8 ms, so that the first of
#: them does not wait long for the last.
_REQUEST_BYTES = MIB


@dataclass(slots=True)
class _Array:
    """What is remembered of the readers of one array's inner chunks."""

    grid: ArrayGrid
    inner: InnerGrid
    readers: Readers
    selections: Selections

    @classmethod
    def of(cls, grid: ArrayGrid, layout: ShardLayout) -> _Array:
        inner = InnerGrid.of(grid, layout)
        return cls(grid, inner, Readers.of(inner.shape), Selections(inner))


@dataclass(frozen=True, slots=True)
class _Shard:
    """A shard as a reader's next chunks are fetched from it: numbers in the most urgent order."""

    place: Place
    layout: ShardLayout
    numbers: tuple[int, ...]


class InnerChunks:
    """Thread-safe; `_lock` guards the table of arrays and is a leaf."""

    def __init__(
        self,
        reader: Reads,
        find: Callable[[Prefix, str], ObjectMeta | Prefix | None],
        fetching: Fetching,
        config: Prefetch,
        *,
        piece_bytes: int,
    ) -> None:
        """`piece_bytes`: the cache's; a smaller gap between two ranges costs no byte."""
        self._reader = reader
        self._find = find
        self._fetching = fetching
        self._config = config
        self._gap_bytes = piece_bytes - 1
        self._shards = Shards(ahead_bytes=int(config.sequential_bytes))
        self._lock = threading.Lock()
        self._arrays: LRUCache[Prefix, _Array] = LRUCache(_MAX_ARRAYS)

    def opened(self, meta: ObjectMeta) -> None:
        """A program opened an object."""
        self._shards.opened(meta)

    def seen(
        self, place: Place, layout: ShardLayout, meta: ObjectMeta, start: int, stop: int
    ) -> How:
        """A program reads [start, stop) of a shard; the rest is its caller's where it is WHOLE."""
        reading = self._shards.seen(layout, meta, start, stop)
        if reading.how is How.UNKNOWN:
            self._fetching.soon(self._load_index, meta, layout)
        if reading.how is not How.INNER:
            return reading.how
        index = self._shards.index(meta)
        useful = False
        if index is not None and reading.number is not None:
            useful = self._chunk_seen(
                place, layout, meta, index, reading.number, begins=reading.begins
            )
            chunk = index.range_of(reading.number)
            if chunk is not None and start <= chunk.start and stop < chunk.stop:
                self._fetching.inner(meta, Block(stop, chunk.stop))
        if reading.ahead is not None and not useful:
            for part in _cut(reading.ahead):
                self._fetching.inner(meta, part)
        return reading.how

    def learn(self, layout: ShardLayout, meta: ObjectMeta, start: int, data: bytes) -> None:
        """A program has read the index of a shard."""
        self._shards.learn(layout, meta, start, data)

    def fetch(self, place: Place, indices: list[Shape], layout: ShardLayout) -> None:
        """Sets these chunks of the whole inner grid on their way, wherever their shards are."""
        grid = InnerGrid.of(place.grid, layout)
        by_shard: dict[Shape, list[int]] = {}
        for index in indices:
            shard, number = grid.place(index)
            by_shard.setdefault(shard, []).append(number)
        for shard, numbers in by_shard.items():
            there = Place(place.prefix, place.grid, shard)
            self._fetching.plan(self._find_and_fetch, _Shard(there, layout, tuple(numbers)))

    def _chunk_seen(
        self,
        place: Place,
        layout: ShardLayout,
        meta: ObjectMeta,
        index: ShardIndex,
        number: int,
        *,
        begins: bool,
    ) -> bool:
        """Plans what follows; whether this chunk had been fetched ahead."""
        useful = self._fetching.was_useful(meta, number)
        most = max(1, min(self._config.chunks, int(self._config.bytes) // index.mean_bytes))
        with self._lock:
            array = self._arrays.get(place.prefix)
            if array is None or (array.grid is not place.grid and array.grid != place.grid):
                array = self._arrays[place.prefix] = _Array.of(place.grid, layout)
            grid = array.inner
            here = grid.index(place.index, number)
            array.readers, plan = observe(array.readers, here, grid.shape, most)
            more = array.selections.read(
                here,
                most,
                begins=begins,
                exists=lambda at: index.range_of(grid.place(at)[1]) is not None,
            )
        if plan.fetch or more:
            self.fetch(place, [*plan.fetch, *more], layout)
        return useful

    def _find_and_fetch(self, shard: _Shard) -> None:
        key = Key(shard.place.prefix + shard.place.key_of(shard.place.index))
        row = self._find(key.parent, key.name)
        if not isinstance(row, ObjectMeta):
            return
        if 0 < row.size <= SMALL_BYTES:
            self._fetching.whole(row)
        elif self._shards.index(row) is not None:
            self._fetch_ranges(row, shard)
        else:
            self._fetching.soon(self._load_and_fetch, row, shard)

    def _load_and_fetch(self, meta: ObjectMeta, shard: _Shard) -> None:
        with in_background():
            self._load_index(meta, shard.layout)
        self._fetch_ranges(meta, shard)

    def _load_index(self, meta: ObjectMeta, layout: ShardLayout) -> None:
        span = index_range(layout, meta)
        if span is not None and self._shards.index(meta) is None:
            data = self._reader.read_inner(meta, span.start, span.stop)
            self._shards.learn(layout, meta, span.start, data)

    def _fetch_ranges(self, meta: ObjectMeta, shard: _Shard) -> None:
        index = self._shards.index(meta)
        if index is None:
            return
        ranges = {
            number: part
            for number in shard.numbers
            if not self._fetching.asked_for(meta, number)
            and (part := index.range_of(number)) is not None
        }
        whole = joined(ranges.values(), gap_bytes=self._gap_bytes, max_bytes=_REQUEST_BYTES)
        wanted: dict[Block, list[int]] = {}
        for number, one in ranges.items():  # in the order of their urgency
            part = next(part for part in whole if part.start <= one.start < part.stop)
            wanted.setdefault(part, []).append(number)
        for part, numbers in wanted.items():
            self._fetching.inner(meta, part, tuple(numbers))


def _cut(part: Block) -> list[Block]:
    return [
        Block(start, min(start + _REQUEST_BYTES, part.stop))
        for start in range(part.start, part.stop, _REQUEST_BYTES)
    ]
