"""The disk tier: files, index and limits put together so that none contradicts the others.

Order of a store: draw room from what is booked in the index (evicting others), fetch, queue, write
many together (cache/storing). Every file that a kill -9 can leave behind has a row that counts it,
and is evicted like any other. Reading asks no index: a file is its own proof, and what is still
queued is found there.

Nothing here raises for trouble of the disk: it is counted, said once, and served as a miss. The
directory must be on a local disk: SQLite's locks do not hold on network file systems.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from zarrfuse.cache.allowance import Allowance
from zarrfuse.cache.counters import Complaints, Counters
from zarrfuse.cache.eviction import STALE_NS, Eviction
from zarrfuse.cache.files import BlockFiles, Damaged
from zarrfuse.cache.format import BlockId, disk_bytes
from zarrfuse.cache.index import Index, IndexUnusable
from zarrfuse.cache.limits import DiskSpace, Limits, Usage
from zarrfuse.cache.storing import Storing
from zarrfuse.cache.tiers import Reservation
from zarrfuse.cache.write_behind import Waiting, WriteBehind
from zarrfuse.config import MIB

#: The directory of this format; a later, incompatible one gets its own beside it.
FORMAT_DIRECTORY = "v1"
#: Booked at once: some thousand small blocks or a hundred large ones, for one transaction,
_AHEAD_BYTES = 64 * MIB
#: and no more than this share of a small cache, of which it evicts so much early.
_AHEAD_SHARE = 16
#: Uses are written to the index after so many, or so many nanoseconds, whichever is first.
_TOUCHES_AT_ONCE = 2048
_TOUCHES_EVERY_NS = 5 * 1_000_000_000
#: Errors that say nothing about the file: it is left alone.
NOT_THE_FILE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class BlockCache:
    """Blocks in `directory`, shared with other daemons, within `limits`.

    `_lock` guards the uses not yet written down, and is a leaf.
    """

    def __init__(
        self,
        directory: Path,
        limits: Limits,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        space: Callable[[Path], DiskSpace] = DiskSpace.of,
    ) -> None:
        """OSError where the directory cannot be made or written."""
        self._limits = limits
        self._clock_ns = clock_ns
        self._complaints = Complaints()
        self._counters = Counters("evictions", "damaged", "stored_bytes", "not_kept")
        self._files = BlockFiles(directory / FORMAT_DIRECTORY)
        self._files.prepare()
        self._index = Index(self._files.root, self._files.scan, self._complaints)
        self._allowance = Allowance(
            min(_AHEAD_BYTES, limits.size_bytes // _AHEAD_SHARE),
            clock_ns=clock_ns,
            fresh_ns=STALE_NS // 2,
        )
        self._eviction = Eviction(
            self._files, limits, self._counters, clock_ns=clock_ns, space=space
        )
        storing = Storing(
            self._index,
            self._files,
            self._eviction,
            self._allowance,
            self._complaints,
            self._counters,
        )
        self._behind = WriteBehind(storing.write, self._write_due_touches)
        self._lock = threading.Lock()
        self._touches: dict[BlockId, int] = {}
        self._touched_ns = clock_ns()

    def get(self, block: BlockId) -> bytes | None:
        data = self._behind.find(block)
        if data is None:
            data = self._read(block)
        if data is not None:
            self.touch(block)
        return data

    def put(self, block: BlockId, data: bytes) -> bool:
        reservation = self.reserve(block)
        return reservation is not None and reservation.store(data)

    def reserve(self, block: BlockId) -> Reservation | None:
        wanted = disk_bytes(block)
        if self._allowance.draw(wanted) or self._book(wanted):
            return _Room(self, block, wanted)
        if self._behind.drain() and self._book(wanted):  # what was queued can be evicted now
            return _Room(self, block, wanted)
        self._counters.add("not_kept")
        return None

    def has(self, block: BlockId) -> bool:
        return self._behind.holds(block) or self._files.exists(block.name)

    def read_ahead(self, block: BlockId) -> bool:
        try:
            return self._behind.holds(block) or self._files.read_ahead(block)
        except OSError:  # whoever reads the block deals with it
            return False

    def touch(self, block: BlockId) -> None:
        now = self._clock_ns()
        with self._lock:
            self._touches[block] = now
            due = self._is_touch_due(now)
        if due:
            self._behind.wake()

    def usage(self) -> Usage | None:
        """What is kept, by all daemons; None while the index cannot be asked."""
        try:
            with self._index.transaction() as rows:
                return rows.usage()
        except IndexUnusable:
            return None

    def snapshot(self) -> dict[str, int]:
        usage = self.usage()
        kept = (
            {}
            if usage is None
            else {
                "disk_blocks": usage.blocks,
                "disk_bytes": usage.total_bytes - usage.reserved_bytes,
            }
        )
        return {**self._counters.snapshot(), **kept, "disk_limit_bytes": self._limits.size_bytes}

    def drain(self) -> None:
        """Returns when all that was stored so far is on disk."""
        self._behind.drain()

    def close(self) -> None:
        """A block that comes later, from a fetch that was under way, is not kept."""
        self._behind.close()
        try:
            with self._index.transaction() as rows:
                rows.touch(self._taken_touches())
                self._allowance.release(rows)
        except IndexUnusable as error:
            self._complaints.say("cache.uses_not_written", reason=str(error))
        self._index.close()

    # Reading -------------------------------------------------------------------------------

    def _read(self, block: BlockId) -> bytes | None:
        try:
            return self._files.read(block)
        except FileNotFoundError:
            return None
        except Damaged as error:
            self._remove_damaged(block, str(error))
        except OSError as error:
            if error.errno in NOT_THE_FILE:
                self._complaints.say("cache.unreadable", reason=str(error))
            else:
                self._remove_damaged(block, str(error))
        return None

    def _remove_damaged(self, block: BlockId, reason: str) -> None:
        """Its row stays until the block is stored again or evicted."""
        self._counters.add("damaged")
        self._complaints.say("cache.damaged", key=block.key, start=block.start, reason=reason)
        try:
            self._files.discard(block.name)
        except OSError as error:
            self._complaints.say("cache.damaged_stays", key=block.key, reason=str(error))

    # Room ----------------------------------------------------------------------------------

    def _book(self, wanted: int) -> bool:
        began = drawn = False
        try:
            with self._index.transaction() as rows:
                began = True
                rows.touch(self._taken_touches())
                drawn = self._allowance.book(rows, wanted, partial(self._eviction.room, rows))
        except IndexUnusable:
            if began:
                self._allowance.forget()
            if drawn:
                self._allowance.put_back(wanted)
            return False
        return drawn

    # Writing -------------------------------------------------------------------------------

    def _store(self, block: BlockId, data: bytes, room: int) -> bool:
        waiting = Waiting(block, block.name, data, room, self._clock_ns())
        taken = self._behind.put(waiting)
        if not taken:
            self._allowance.put_back(room)
        return taken

    # Uses ----------------------------------------------------------------------------------

    def _is_touch_due(self, now_ns: int) -> bool:
        waited_ns = now_ns - self._touched_ns
        return len(self._touches) >= _TOUCHES_AT_ONCE or waited_ns >= _TOUCHES_EVERY_NS

    def _write_due_touches(self) -> None:
        with self._lock:
            due = self._is_touch_due(self._clock_ns()) and bool(self._touches)
        if not due:
            return
        try:
            with self._index.transaction() as rows:
                rows.touch(self._taken_touches())
        except IndexUnusable as error:
            self._complaints.say("cache.uses_not_written", reason=str(error))

    def _taken_touches(self) -> list[tuple[int, bytes]]:
        """Those of blocks that have no row yet stay for the next time."""
        with self._lock:
            taken, self._touches = self._touches, {}
            self._touched_ns = self._clock_ns()
        rowless = {block: used for block, used in taken.items() if self._behind.holds(block)}
        with self._lock:
            self._touches = rowless | self._touches
        return [(used, block.name) for block, used in taken.items() if block not in rowless]


class _Room:
    """One reservation of a BlockCache."""

    def __init__(self, cache: BlockCache, block: BlockId, room: int) -> None:
        self._cache = cache
        self._block = block
        self._room = room

    def store(self, data: bytes) -> bool:
        if len(data) != self._block.size:
            raise ValueError(f"{len(data)} bytes for a block of {self._block.size}")
        return self._cache._store(self._block, data, self._room)

    def cancel(self) -> None:
        self._cache._allowance.put_back(self._room)
