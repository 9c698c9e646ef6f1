"""Room in the cache: what must go for new blocks, and what is only in the way.

Acts inside the caller's transaction of the index: files are removed there together with their rows.
Knows no bytes of blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zarrfuse.cache.counters import Counters
from zarrfuse.cache.files import BlockFiles
from zarrfuse.cache.limits import DiskSpace, Limits
from zarrfuse.cache.rows import Row, Rows

#: A reservation older than this belongs to a process that died, or to a hopeless download.
STALE_NS = 300 * 1_000_000_000
#: Most blocks that one reservation evicts (measured: 40 ms for the unlinks); the rest follows with
#: the next ones, and meanwhile blocks are served without being kept.
_EVICTED_AT_ONCE = 256


class Eviction:
    """Makes room within `limits`. Thread-safe, as far as the rows are."""

    def __init__(
        self,
        files: BlockFiles,
        limits: Limits,
        counters: Counters,
        *,
        clock_ns: Callable[[], int],
        space: Callable[[Path], DiskSpace],
    ) -> None:
        """Counts "evictions"."""
        self._files = files
        self._limits = limits
        self._counters = counters
        self._clock_ns = clock_ns
        self._space = space

    def room(self, rows: Rows, wanted: int) -> int:
        """How much of `wanted` fits now, after evicting what must go for it, up to a bound."""
        if wanted > self._limits.size_bytes:
            return 0
        free = self._space(self._files.root).free
        lacking = self._limits.shortfall(rows.usage(), free, wanted)
        if lacking <= 0:
            return wanted
        for row in rows.oldest(_EVICTED_AT_ONCE, stale_before_ns=self._stale_before_ns()):
            self.drop(rows, row)
            self._counters.add("evictions")
            lacking -= row.bytes
            if lacking <= 0:
                return wanted
        return wanted - lacking

    def vacate(self, rows: Rows, name: bytes) -> bool:
        """Whether the block may be stored; a row without file, or of the dead, gives way."""
        row = rows.find(name)
        if row is None:
            return True
        if row.token is None and self._files.exists(name):
            return False
        if row.token is not None and row.used_ns >= self._stale_before_ns():
            return False
        self.drop(rows, row)
        return True

    def drop(self, rows: Rows, row: Row) -> None:
        """The file first: killed in between, a row without file is the lesser lie."""
        self._files.discard(row.name)
        if row.token is not None:
            self._files.discard_temporary(row.name, row.token)
        rows.remove(row.name)

    def _stale_before_ns(self) -> int:
        return self._clock_ns() - STALE_NS
