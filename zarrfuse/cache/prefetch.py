"""Fetches what a reader will ask for next: Zarr chunks by their grid, large files by going on.

Decides nothing about order (core/access, cache/sequence do) and nothing about bytes (the caching
reader does): it watches reads, asks those two, and has the reader fetch into the cache from
threads of its own. A prefetch that fails is nobody's error: who needs the bytes will hear of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import structlog
from cachetools import LRUCache

from zarrfuse.cache.arrays import Arrays, Place
from zarrfuse.cache.sequence import Sequence, read_on
from zarrfuse.config import Prefetch
from zarrfuse.core.access import Readers, observe
from zarrfuse.core.keys import Key, ObjectMeta, Prefix
from zarrfuse.core.zarr.names import METADATA_NAMES, is_metadata_name, may_be_chunk
from zarrfuse.errors import StoreError

log = structlog.get_logger(__name__)

#: Readers of arrays, and of large files, that are remembered.
_MAX_READERS = 4096
#: An array is looked for so many levels above its chunk: "c" and a few dimensions.
_MAX_LEVELS = 6
#: Versions that were asked for and need not be asked for again soon.
_MAX_ASKED = 20_000


class Reads(Protocol):
    def read(self, meta: ObjectMeta, start: int, stop: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Names:
    """What prefetching asks of the listing: one name, all names, and to list an array flat."""

    find: Callable[[Prefix, str], ObjectMeta | Prefix | None]
    children: Callable[[Prefix], Iterable[tuple[str, ObjectMeta | Prefix]]]
    flatten: Callable[[Prefix, int], None]


class Prefetcher:
    """Thread-safe; `_lock` guards the tables and the count of bytes in flight, no more."""

    def __init__(self, reader: Reads, names: Names, config: Prefetch, *, whole_bytes: int) -> None:
        self._reader = reader
        self._names = names
        self._config = config
        self._whole_bytes = whole_bytes
        self._arrays = Arrays()
        self._lock = threading.Lock()
        self._readers: LRUCache[Prefix, Readers] = LRUCache(_MAX_READERS)
        self._sequences: LRUCache[tuple[Key, str], Sequence] = LRUCache(_MAX_READERS)
        self._asked: LRUCache[tuple[Key, str], None] = LRUCache(_MAX_ASKED)
        self._looked: LRUCache[Prefix, None] = LRUCache(_MAX_ASKED)
        self._queued: dict[Key, tuple[Future[None], ObjectMeta]] = {}
        self._in_flight = 0
        self._tasks = 0
        self._counts = {
            "planned": 0,
            "fetched": 0,
            "useful": 0,
            "dropped": 0,
            "failed": 0,
            "cancelled": 0,
        }
        # One thread plans, so that pages are asked for in order; the others fetch.
        self._planner = ThreadPoolExecutor(1, thread_name_prefix="prefetch-plan")
        self._fetchers = ThreadPoolExecutor(config.at_once, thread_name_prefix="prefetch")

    def seen(self, meta: ObjectMeta, start: int, stop: int) -> None:
        """A program reads these bytes; what it may want next is set on its way."""
        place = self._arrays.locate(meta.key)
        if place is not None:
            if start == 0:
                self._chunk_seen(place, meta)
        elif start == 0 and may_be_chunk(meta.key.name) and self._is_new(meta.key.parent):
            self._later(self._planner, self._find_array, meta.key.parent)
        if place is None and meta.size > self._whole_bytes:
            self._part_seen(meta, start, stop)

    def learn(self, key: Key, document: bytes) -> None:
        """A program has read this metadata object: its arrays are known from now on."""
        learned = self._arrays.learn(key, document)
        for prefix, objects in learned.arrays:
            self._names.flatten(prefix, objects)
        if learned.small:
            self._plan(learned.small)
        elif learned.group is not None:
            self._later(self._planner, self._plan_members, learned.group)

    def close(self) -> None:
        """Drops what waits; what is in flight ends by itself."""
        for pool in (self._planner, self._fetchers):
            pool.shutdown(wait=False, cancel_futures=True)

    def waiting(self) -> int:
        """Tasks that are set on their way and have not ended."""
        with self._lock:
            return self._tasks

    def snapshot(self) -> dict[str, int]:
        """Counts for the status report."""
        with self._lock:
            return {f"prefetch_{name}": count for name, count in self._counts.items()}

    # Zarr chunks ---------------------------------------------------------------------------

    def _chunk_seen(self, place: Place, meta: ObjectMeta) -> None:
        most = max(1, min(self._config.chunks, int(self._config.bytes) // max(meta.size, 1)))
        with self._lock:
            if (meta.key, meta.etag) in self._asked:
                self._counts["useful"] += 1
                del self._asked[meta.key, meta.etag]
            shape = place.grid.grid_shape
            state = self._readers.get(place.prefix) or Readers.of(shape)
            self._readers[place.prefix], plan = observe(state, place.index, shape, most)
        for index in plan.cancel:
            self._cancel(Key(place.prefix + place.key_of(index)))
        self._plan(Key(place.prefix + place.key_of(index)) for index in plan.fetch)

    def _plan(self, keys: Iterable[Key]) -> None:
        wanted = list(keys)
        if wanted:
            self._later(self._planner, self._find_and_fetch, wanted)

    def _plan_members(self, group: Prefix) -> None:
        """A group without consolidated metadata: that of its members, before it is asked for."""
        if self._names.find(group, ".zmetadata") is not None:
            return  # it will be read next, and tells of all
        for _, row in self._names.children(group):
            if isinstance(row, Prefix):
                self._find_and_fetch([row.file(name) for name in METADATA_NAMES])

    def _find_and_fetch(self, keys: list[Key]) -> None:
        if keys:  # a page tells of what follows: the lowest first, for a reader that goes down
            lowest = min(keys)
            self._names.find(lowest.parent, lowest.name)
        for key in keys:
            row = self._names.find(key.parent, key.name)
            if isinstance(row, ObjectMeta) and 0 < row.size <= self._whole_bytes:
                self._fetch_soon(row, 0, row.size)

    def _is_new(self, parent: Prefix) -> bool:
        """Whether nobody has looked for an array around this directory yet."""
        with self._lock:
            known = parent in self._looked
            self._looked[parent] = None
        return not known

    def _find_array(self, parent: Prefix) -> None:
        """A chunk was read without its metadata, by cp or cat: the array is looked for above it."""
        for prefix in islice(parent.lineage(), _MAX_LEVELS):
            for name in ("zarr.json", ".zarray"):
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
        most = int(self._config.sequential_bytes)
        with self._lock:
            before = self._sequences.get(version)
            self._sequences[version], ahead = read_on(before, start, stop, meta.size, most)
        if ahead is None:
            return
        piece = max(int(self._config.sequential_bytes) // 8, 1)
        for begin in range(*ahead, piece):
            self._fetch_soon(meta, begin, min(begin + piece, ahead[1]))

    # Fetching ------------------------------------------------------------------------------

    def _fetch_soon(self, meta: ObjectMeta, start: int, stop: int) -> None:
        """Sets a fetch on its way, unless it is already, or too much is."""
        whole = start == 0 and stop == meta.size
        with self._lock:
            if whole and (meta.key, meta.etag) in self._asked:
                return
            if self._in_flight + stop - start > int(self._config.bytes):
                self._counts["dropped"] += 1
                return
            if whole:
                self._asked[meta.key, meta.etag] = None
            self._in_flight += stop - start
            self._counts["planned"] += 1
        future = self._later(self._fetchers, self._fetch, meta, start, stop)
        if whole and future is not None:
            with self._lock:
                self._queued[meta.key] = (future, meta)

    def _cancel(self, key: Key) -> None:
        """A reader went elsewhere: what is not under way yet need not be fetched."""
        with self._lock:
            future, meta = self._queued.pop(key, (None, None))
        if future is None or meta is None or not future.cancel():
            return
        with self._lock:
            self._in_flight -= meta.size
            self._asked.pop((key, meta.etag), None)
            self._counts["cancelled"] += 1

    def _fetch(self, meta: ObjectMeta, start: int, stop: int) -> None:
        outcome = "failed"
        try:
            self._reader.read(meta, start, stop)
            outcome = "fetched"
        finally:
            with self._lock:
                self._in_flight -= stop - start
                self._counts[outcome] += 1
                self._queued.pop(meta.key, None)

    def _later(
        self, pool: ThreadPoolExecutor, task: Callable[..., None], *args: object
    ) -> Future[None] | None:
        with self._lock:
            self._tasks += 1
        try:
            future: Future[None] = pool.submit(task, *args)
        except RuntimeError:  # shut down: the mount is being taken away
            log.debug("prefetch after the end")
            return None
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: Future[None]) -> None:
        with self._lock:
            self._tasks -= 1
        _log_failure(future)


class PrefetchingReader:
    """A reader whose reads are watched. Same interface; the bytes are `inner`'s."""

    def __init__(self, inner: Reads, prefetcher: Prefetcher) -> None:
        self._inner = inner
        self._prefetcher = prefetcher

    def read(self, meta: ObjectMeta, start: int, stop: int) -> bytes:
        with _harmless():
            self._prefetcher.seen(meta, start, stop)
        data = self._inner.read(meta, start, stop)
        if start == 0 and len(data) == meta.size and is_metadata_name(meta.key.name):
            with _harmless():
                self._prefetcher.learn(meta.key, data)
        return data


@contextmanager
def _harmless() -> Iterator[None]:
    """A defect in guessing is logged, and keeps no program from its bytes."""
    try:
        yield
    except Exception:
        log.exception("prefetch failed unexpectedly")


def _log_failure(future: Future[None]) -> None:
    """An error of the bucket is the reader's to meet; a defect is logged with its traceback."""
    error = None if future.cancelled() else future.exception()
    if isinstance(error, StoreError):
        log.debug("prefetch failed", error=str(error))
    elif error is not None:
        log.error("prefetch failed unexpectedly", exc_info=error)
