"""Fetches what a reader will ask for next: Zarr chunks by their grid, large files by going on.

Decides nothing about order (core/access, cache/sequence do) and nothing about bytes (the caching
reader does): it watches reads, asks those two, and has cache/ahead do what they say. Inner
chunks of shards are cache/inner's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import structlog
from cachetools import LRUCache

from zarrfuse.cache.ahead import Cached, Fetching, Reads
from zarrfuse.cache.arrays import Arrays, Learned, Place
from zarrfuse.cache.burst import MOST_MEMBERS, Burst
from zarrfuse.cache.inner import InnerChunks
from zarrfuse.cache.sequence import Large, Ways, fell_short, read_on
from zarrfuse.cache.shards import SMALL_BYTES, How
from zarrfuse.config import MIB, Cache, Prefetch
from zarrfuse.core.access import Readers, observe
from zarrfuse.core.keys import Key, ObjectMeta, Prefix
from zarrfuse.core.zarr.metadata import ArrayGrid
from zarrfuse.core.zarr.names import ARRAY_NAMES, METADATA_NAMES, is_metadata_name, may_be_chunk
from zarrfuse.store.limit import in_background

log = structlog.get_logger(__name__)

#: Readers of arrays, and of large files, that are remembered.
_MAX_READERS = 4096
#: An array is looked for so many levels above its chunk: "c" and a few dimensions.
_MAX_LEVELS = 6
#: Directories around which an array was looked for.
_MAX_LOOKED = 20_000
#: One request of what is fetched ahead in a large file. Measured at 50 ms: with 1 MiB 1.4 times
#: slower, with 8 MiB the same, and what is read next waits longer for the rest of its request.
_STEP_BYTES = 4 * MIB


@dataclass(frozen=True, slots=True)
class Names:
    """What prefetching asks of the listing: a name, the same without asking the bucket, all names,
    and to list an array flat."""

    find: Callable[[Prefix, str], ObjectMeta | Prefix | None]
    fresh: Callable[[Prefix, str], ObjectMeta | Prefix | None]
    children: Callable[[Prefix], Iterable[tuple[str, ObjectMeta | Prefix]]]
    flatten: Callable[[Prefix, ArrayGrid], None]


class Prefetcher:
    """Thread-safe; `_lock` guards the tables of readers, no more."""

    def __init__(self, reader: Cached, names: Names, config: Prefetch, cache: Cache) -> None:
        self._reader = reader
        self._names = names
        self._config = config
        self._whole_bytes = int(cache.whole_bytes)
        self._block_bytes = int(cache.block_bytes)
        self._arrays = Arrays()
        self._fetching = Fetching(reader, config)
        piece_bytes = int(cache.piece_bytes)
        self._inner = InnerChunks(
            reader, names.find, self._fetching, config, piece_bytes=piece_bytes
        )
        self._lock = threading.Lock()
        self._readers: LRUCache[Prefix, Readers] = LRUCache(_MAX_READERS)
        self._ways: LRUCache[tuple[Key, str], Ways] = LRUCache(_MAX_READERS)
        self._looked: LRUCache[Prefix, None] = LRUCache(_MAX_LOOKED)

    def seen(self, meta: ObjectMeta, start: int, stop: int) -> How:
        """A program reads these bytes; what it may want next is set on its way.

        For what it reads them: WHOLE, unless it is a part of a shard.
        """
        place = self._arrays.locate(meta.key)
        if place is not None:
            layout = place.grid.sharding
            if layout is not None:
                how = self._inner.seen(place, layout, meta, start, stop)
                if how is not How.WHOLE:
                    return how
            if start == 0 or layout is not None:
                self._chunk_seen(place, meta)
        elif start == 0 and may_be_chunk(meta.key.name) and self._is_new(meta.key.parent):
            self._fetching.plan(self._find_array, meta.key.parent)
        if meta.size > self._whole_bytes:
            self._part_seen(meta, start, stop)
        return How.WHOLE

    def opened(self, meta: ObjectMeta) -> None:
        """A program opened an object."""
        self._inner.opened(meta)

    def is_sharded(self, meta: ObjectMeta) -> bool:
        """Whether programs want small parts of an object, which lie anywhere in it."""
        if meta.size <= SMALL_BYTES:
            return False
        place = self._arrays.locate(meta.key)
        return place is not None and place.grid.sharding is not None

    def learn_index(self, meta: ObjectMeta, start: int, data: bytes) -> None:
        """A program has read what contains the index of a shard."""
        place = self._arrays.locate(meta.key)
        if place is not None and place.grid.sharding is not None:
            self._inner.learn(place.grid.sharding, meta, start, data)

    def learn(self, key: Key, document: bytes) -> None:
        """A program has read this metadata object: its arrays are known from now on."""
        learned = self._arrays.learn(key, document)
        self._flatten(learned)
        burst = Burst(int(self._config.burst_bytes))
        if learned.small:
            self._fetching.plan(self._fetch_small, learned.small, burst)
        elif learned.group is not None:
            self._fetching.plan(self._plan_members, learned.group, burst)

    def _flatten(self, learned: Learned) -> None:
        for prefix, grid in learned.arrays:
            self._names.flatten(prefix, grid)

    def close(self) -> None:
        """Drops what waits; what is in flight ends by itself."""
        self._fetching.close()

    def waiting(self) -> int:
        """Tasks that are set on their way and have not ended."""
        return self._fetching.waiting()

    def snapshot(self) -> dict[str, int]:
        """Counts for the status report."""
        return self._fetching.snapshot()

    # Zarr chunks ---------------------------------------------------------------------------

    def _chunk_seen(self, place: Place, meta: ObjectMeta) -> None:
        most = max(1, min(self._config.chunks, int(self._config.bytes) // max(meta.size, 1)))
        self._fetching.was_useful(meta)
        with self._lock:
            shape = place.grid.grid_shape
            state = self._readers.get(place.prefix) or Readers.of(shape)
            self._readers[place.prefix], plan = observe(state, place.index, shape, most)
        for index in plan.cancel:
            self._fetching.cancel(Key(place.prefix + place.key_of(index)))
        self._plan(Key(place.prefix + place.key_of(index)) for index in plan.fetch)

    def _plan(self, keys: Iterable[Key]) -> None:
        """What the listing knows already goes on its way at once: a change of threads costs as much
        as all the rest of it (measured)."""
        unknown = []
        for key in keys:
            row = self._names.fresh(key.parent, key.name)
            if isinstance(row, ObjectMeta):
                self._fetch_object(row)
            else:
                unknown.append(key)
        if unknown:
            self._fetching.plan(self._find_and_fetch, unknown)

    def _plan_members(self, group: Prefix, burst: Burst) -> None:
        """A group without consolidated metadata: that of its members, before it is asked for."""
        with in_background():
            if self._names.find(group, ".zmetadata") is not None:
                return  # it will be read next, and tells of all
            rows = (row for _, row in self._names.children(group))
            members = (row for row in rows if isinstance(row, Prefix))
            for member in islice(members, MOST_MEMBERS):
                for name in METADATA_NAMES:
                    if burst.is_spent:
                        return
                    meta = self._fetch_one(member.file(name), burst)
                    if meta is not None and name in ARRAY_NAMES:
                        self._fetching.soon(self._learn_member, meta, burst)

    def _learn_member(self, meta: ObjectMeta, burst: Burst) -> None:
        """Its chunks, if it is a coordinate. Members of a member wait until it is opened."""
        with in_background():
            learned = self._arrays.learn(meta.key, self._reader.read(meta, 0, meta.size))
        self._flatten(learned)
        self._fetching.plan(self._fetch_small, learned.small, burst)

    def _fetch_small(self, keys: Iterable[Key], burst: Burst) -> None:
        """Those of the chunks for which there is room in the burst."""
        with in_background():
            for key in keys:
                if not burst.look():
                    return
                self._fetch_one(key, burst)

    def _fetch_one(self, key: Key, burst: Burst) -> ObjectMeta | None:
        """Sets the object on its way, if it is there and the burst has room for it."""
        row = self._names.find(key.parent, key.name)
        if not isinstance(row, ObjectMeta) or row.size == 0 or not burst.take(row.size):
            return None
        self._fetching.whole(row)
        return row

    def _find_and_fetch(self, keys: list[Key]) -> None:
        if keys:  # a page tells of what follows: the lowest first, for a reader that goes down
            lowest = min(keys)
            self._names.find(lowest.parent, lowest.name)
        for key in keys:
            row = self._names.find(key.parent, key.name)
            if isinstance(row, ObjectMeta):
                self._fetch_object(row)

    def _fetch_object(self, meta: ObjectMeta) -> None:
        if 0 < meta.size <= self._whole_bytes:
            self._fetching.whole(meta)

    def _is_new(self, parent: Prefix) -> bool:
        """Whether nobody has looked for an array around this directory yet."""
        with self._lock:
            known = parent in self._looked
            self._looked[parent] = None
        return not known

    def _find_array(self, parent: Prefix) -> None:
        """A chunk was read without its metadata, by cp or cat: the array is looked for above it."""
        for prefix in islice(parent.lineage(), _MAX_LEVELS):
            for name in ARRAY_NAMES:
                row = self._names.find(prefix, name)
                if isinstance(row, ObjectMeta) and row.size <= self._whole_bytes:
                    self.learn(row.key, self._reader.read(row, 0, row.size))
                    return
            with self._lock:
                if prefix != parent and prefix in self._looked:
                    return
                self._looked[prefix] = None

    # Large files ---------------------------------------------------------------------------

    def _part_seen(self, meta: ObjectMeta, start: int, stop: int) -> None:
        version = (meta.key, meta.etag)
        large = Large(meta.size, self._block_bytes, int(self._config.sequential_bytes))
        with self._lock:
            ways = self._ways.get(version, ())
            self._ways[version], ahead = read_on(ways, start, stop, large)
        for begin in range(*(ahead or (0, 0)), _STEP_BYTES):
            if ahead and not self._fetching.part(meta, begin, min(begin + _STEP_BYTES, ahead[1])):
                with self._lock:
                    self._ways[version] = fell_short(self._ways.get(version, ()), ahead, begin)
                return


class PrefetchingReader:
    """A reader whose reads are watched. Same interface; the bytes are `inner`'s."""

    def __init__(self, inner: Reads, prefetcher: Prefetcher) -> None:
        self._inner = inner
        self._prefetcher = prefetcher

    def read(self, meta: ObjectMeta, start: int, stop: int) -> bytes:
        how = How.WHOLE
        with _harmless():
            how = self._prefetcher.seen(meta, start, stop)
        if how is not How.WHOLE:
            return self._read_inner(meta, start, stop, how)
        data = self._inner.read(meta, start, stop)
        if start == 0 and len(data) == meta.size and is_metadata_name(meta.key.name):
            with _harmless():
                self._prefetcher.learn(meta.key, data)
        return data

    def _read_inner(self, meta: ObjectMeta, start: int, stop: int, how: How) -> bytes:
        data = self._inner.read_inner(meta, start, stop)
        if how is How.INDEX:
            with _harmless():
                self._prefetcher.learn_index(meta, start, data)
        return data


@contextmanager
def _harmless() -> Iterator[None]:
    """A defect in guessing is logged, and keeps no program from its bytes."""
    try:
        yield
    except Exception:
        log.exception("prefetch failed unexpectedly")
