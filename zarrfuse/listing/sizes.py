"""True sizes of objects that a listing shows as empty: by HEAD, remembered for a while.

A listing says 0 of natively segmented objects (facts: DLO), and the same ETag whatever becomes of
their segments: so what HEAD said grows old as a page does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from cachetools import LRUCache

from zarrfuse.core.keys import Key, ObjectMeta
from zarrfuse.errors import NotFound, Unavailable
from zarrfuse.store.base import Head

_MAX_SIZED = 10_000


class _Sized(NamedTuple):
    """`meta` by HEAD, asked for at `at`, of an object that is listed with `etag`."""

    etag: str
    meta: ObjectMeta
    at: float


class Sizes:
    """Thread-safe; `_lock` is a leaf. `stale` is called when an answer is older than `ttl_s`."""

    def __init__(
        self, source: Head, ttl_s: float, clock: Callable[[], float], stale: Callable[[], None]
    ) -> None:
        self._source = source
        self._ttl_s = ttl_s
        self._clock = clock
        self._stale = stale
        self._lock = threading.Lock()
        self._sized: LRUCache[Key, _Sized] = LRUCache(_MAX_SIZED)

    def of(self, row: ObjectMeta, *, stale_ok: bool) -> ObjectMeta:
        """The meta by HEAD; with `stale_ok` an older one while the bucket is Unavailable."""
        now = self._clock()
        with self._lock:
            known = self._sized.get(row.key)
        if known is not None and known.etag != row.etag:
            known = None
        if known is not None and now < known.at + self._ttl_s:
            return known.meta
        try:
            meta = self._source.head(row.key)
        except NotFound:  # deleted since it was listed; open() will say so
            meta = row
        except Unavailable:
            if known is None or not stale_ok:
                raise
            self._stale()
            return known.meta
        with self._lock:
            self._sized[row.key] = _Sized(row.etag, meta, now)
        return meta

    def forget(self, key: Key) -> None:
        with self._lock:
            self._sized.pop(key, None)
