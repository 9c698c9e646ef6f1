"""Fetches into the cache that nobody waits for: threads, what is on its way, and the bound on it.

Knows versions and ranges; not why they are wanted. A fetch that fails is nobody's error: who needs
the bytes will hear of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import structlog
from cachetools import LRUCache

from zarrfuse.config import Prefetch
from zarrfuse.core.blocks import Block
from zarrfuse.core.keys import Key, ObjectMeta
from zarrfuse.errors import StoreError
from zarrfuse.store.limit import in_background

log = structlog.get_logger(__name__)

#: Pieces that were asked for and need not be asked for again soon.
_MAX_ASKED = 20_000
#: In the place of an inner chunk's number: the object as a whole.
WHOLE = -1

Piece = tuple[Key, str, int]


class Reads(Protocol):
    def read(self, meta: ObjectMeta, start: int, stop: int) -> bytes: ...

    def read_inner(self, meta: ObjectMeta, start: int, stop: int) -> bytes: ...


class Cached(Reads, Protocol):
    def is_near(self, meta: ObjectMeta) -> bool: ...

    def fetch(self, meta: ObjectMeta, start: int, stop: int) -> None: ...


class Fetching:
    """Thread-safe; `_lock` guards the tables and the count of bytes in flight, no more."""

    def __init__(self, reader: Cached, config: Prefetch) -> None:
        self._reader = reader
        self._bytes = int(config.bytes)
        self._lock = threading.Lock()
        self._asked: LRUCache[Piece, None] = LRUCache(_MAX_ASKED)
        self._queued: dict[Key, tuple[Future[object], ObjectMeta]] = {}
        self._in_flight = 0
        self._tasks = 0
        names = ("planned", "fetched", "useful", "dropped", "failed", "cancelled")
        self._counts = dict.fromkeys(names, 0)
        # One thread plans, so that pages are asked for in order; the others fetch.
        self._planner = ThreadPoolExecutor(1, thread_name_prefix="prefetch-plan")
        self._fetchers = ThreadPoolExecutor(config.at_once, thread_name_prefix="prefetch")

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

    def plan(self, task: Callable[..., object], *args: object) -> None:
        """Does this on the planner's thread, after what it was given before."""
        self._later(self._planner, task, *args)

    def soon(self, task: Callable[..., object], *args: object) -> None:
        """Does this on a fetcher's thread."""
        self._later(self._fetchers, task, *args)

    def was_useful(self, meta: ObjectMeta, number: int = WHOLE) -> bool:
        """A program reads the object, or that inner chunk of it: whether it had been asked for."""
        piece = (meta.key, meta.etag, number)
        with self._lock:
            if piece not in self._asked:
                return False
            self._counts["useful"] += 1
            del self._asked[piece]
            return True

    def asked_for(self, meta: ObjectMeta, number: int) -> bool:
        """Whether that inner chunk is on its way, or was."""
        with self._lock:
            return (meta.key, meta.etag, number) in self._asked

    def whole(self, meta: ObjectMeta) -> None:
        """Sets the object on its way, unless it is already, or too much is."""
        piece = (meta.key, meta.etag, WHOLE)
        # What the disk has costs its reader less than a change of threads (measured).
        if self._reader.is_near(meta) or not self._booked(meta.size, piece):
            return
        part = Block(0, meta.size)
        future = self._later(self._fetchers, self._fetch, self._reader.fetch, meta, part)
        if future is not None:
            with self._lock:
                self._queued[meta.key] = (future, meta)
            # Only now, so that one that has ended already is taken out as well.
            future.add_done_callback(lambda _: self._dequeue(meta.key))

    def part(self, meta: ObjectMeta, start: int, stop: int) -> bool:
        """The same for a range of a large object; False where too much is on its way."""
        if not self._booked(stop - start):
            return False
        self._later(self._fetchers, self._fetch, self._reader.fetch, meta, Block(start, stop))
        return True

    def inner(self, meta: ObjectMeta, part: Block, numbers: tuple[int, ...] = ()) -> None:
        """The same for a range of a shard with these inner chunks, and nothing around it."""
        pieces = ((meta.key, meta.etag, number) for number in numbers)
        if self._booked(part.size, *pieces):
            self._later(self._fetchers, self._fetch, self._reader.read_inner, meta, part)

    def cancel(self, key: Key) -> None:
        """A reader went elsewhere: what is not under way yet need not be fetched."""
        with self._lock:
            future, meta = self._queued.get(key, (None, None))
        if future is None or meta is None or not future.cancel():
            return
        with self._lock:
            self._in_flight -= meta.size
            self._asked.pop((key, meta.etag, WHOLE), None)
            self._counts["cancelled"] += 1

    def _booked(self, size: int, *pieces: Piece) -> bool:
        """Room for so many bytes more; False if there is none, or all pieces were asked for."""
        with self._lock:
            if pieces and all(piece in self._asked for piece in pieces):
                return False
            if self._in_flight + size > self._bytes:
                self._counts["dropped"] += 1
                return False
            self._asked.update(dict.fromkeys(pieces))
            self._in_flight += size
            self._counts["planned"] += 1
            return True

    def _fetch(
        self, bring: Callable[[ObjectMeta, int, int], object], meta: ObjectMeta, part: Block
    ) -> None:
        outcome = "failed"
        try:
            with in_background():
                bring(meta, part.start, part.stop)
            outcome = "fetched"
        finally:
            with self._lock:
                self._in_flight -= part.size
                self._counts[outcome] += 1

    def _dequeue(self, key: Key) -> None:
        with self._lock:
            self._queued.pop(key, None)

    def _later(
        self, pool: ThreadPoolExecutor, task: Callable[..., object], *args: object
    ) -> Future[object] | None:
        with self._lock:
            self._tasks += 1
        try:
            future: Future[object] = pool.submit(task, *args)
        except RuntimeError:  # shut down: the mount is being taken away
            log.debug("prefetch after the end")
            with self._lock:
                self._tasks -= 1
            return None
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: Future[object]) -> None:
        with self._lock:
            self._tasks -= 1
        _log_failure(future)


def _log_failure(future: Future[object]) -> None:
    """An error of the bucket is the reader's to meet; a defect is logged with its traceback."""
    error = None if future.cancelled() else future.exception()
    if isinstance(error, StoreError):
        log.debug("prefetch failed", error=str(error))
    elif error is not None:
        log.error("prefetch failed unexpectedly", exc_info=error)
