"""The disk tier: files, index and limits put together so that none contradicts the others.

Order of a store: reserve a row (evicting others), write under a temporary name, then rename the
file and settle the row in one index transaction. So every file that a kill -9 can leave behind has
a row that counts it, and is evicted like any other. Reading asks no index: a file is its own proof.

Nothing here raises for trouble of the disk: it is counted, said once, and served as a miss. The
directory must be on a local disk: SQLite's locks do not hold on network file systems.
"""

from __future__ import annotations

import errno
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

from zarrfuse.cache.counters import Complaints, Counters
from zarrfuse.cache.files import BlockFiles, Damaged
from zarrfuse.cache.format import BlockId, disk_bytes
from zarrfuse.cache.index import Index, IndexUnusable
from zarrfuse.cache.limits import DiskSpace, Limits, Usage
from zarrfuse.cache.rows import Row, Rows
from zarrfuse.cache.tiers import Reservation

#: The directory of this format; a later, incompatible one gets its own beside it.
FORMAT_DIRECTORY = "v1"
#: A reservation older than this belongs to a process that died, or to a hopeless download.
STALE_NS = 300 * 1_000_000_000
#: Most blocks that one reservation evicts (measured: 40 ms for the unlinks); the rest follows with
#: the next ones, and meanwhile blocks are served without being kept.
_EVICTED_AT_ONCE = 256
#: Uses are written to the index after so many, or so many nanoseconds, whichever is first.
_TOUCHES_AT_ONCE = 512
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
        self._space = space
        self._complaints = Complaints()
        self._counters = Counters("evictions", "damaged", "stored_bytes", "not_kept")
        self._files = BlockFiles(directory / FORMAT_DIRECTORY)
        self._files.prepare()
        self._index = Index(self._files.root, self._files.scan, self._complaints)
        self._lock = threading.Lock()
        self._touches: dict[BlockId, int] = {}
        self._touched_ns = clock_ns()

    def get(self, block: BlockId) -> bytes | None:
        try:
            data = self._files.read(block)
        except FileNotFoundError:
            return None
        except Damaged as error:
            self._remove_damaged(block, str(error))
            return None
        except OSError as error:
            if error.errno in NOT_THE_FILE:
                self._complaints.say("cache.unreadable", reason=str(error))
            else:
                self._remove_damaged(block, str(error))
            return None
        self.touch(block)
        return data

    def put(self, block: BlockId, data: bytes) -> bool:
        reservation = self.reserve(block)
        return reservation is not None and reservation.store(data)

    def reserve(self, block: BlockId) -> Reservation | None:
        """None also where the block is there already, or another process is fetching it."""
        token = secrets.randbits(62)
        try:
            with self._index.transaction() as rows:
                rows.touch(self._taken_touches())
                if not self._vacate(rows, block.name):
                    return None
                fits = self._make_room(rows, disk_bytes(block))
                if fits:
                    rows.add([Row(block.name, disk_bytes(block), self._clock_ns(), token)])
        except IndexUnusable:
            fits = False
        if not fits:
            self._counters.add("not_kept")
        return _Room(self, block, token) if fits else None

    def touch(self, block: BlockId) -> None:
        now = self._clock_ns()
        with self._lock:
            self._touches[block] = now
            due = (
                len(self._touches) >= _TOUCHES_AT_ONCE
                or now - self._touched_ns >= _TOUCHES_EVERY_NS
            )
        if due and not self._index.is_busy:
            self._write_touches()

    def trim(self) -> None:
        """Evicts down to the limits now, as after the size was lowered; may take seconds."""
        try:
            while True:
                with self._index.transaction() as rows:
                    before = rows.usage().blocks
                    if self._make_room(rows, 0) or rows.usage().blocks == before:
                        return
        except IndexUnusable as error:
            self._complaints.say("cache.not_trimmed", reason=str(error))

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
            {} if usage is None else {"disk_blocks": usage.blocks, "disk_bytes": usage.total_bytes}
        )
        return {**self._counters.snapshot(), **kept, "disk_limit_bytes": self._limits.size_bytes}

    def close(self) -> None:
        self._write_touches()
        self._index.close()

    def _vacate(self, rows: Rows, name: bytes) -> bool:
        """Whether the block may be reserved; a row without file, or of the dead, gives way."""
        row = rows.find(name)
        if row is None:
            return True
        if row.token is None and self._files.exists(name):
            return False
        if row.token is not None and row.used_ns >= self._stale_before_ns():
            return False
        self._drop(rows, row)
        return True

    def _make_room(self, rows: Rows, wanted: int) -> bool:
        """Evicts what must go for `wanted` bytes, up to a bound; whether they fit now."""
        if wanted > self._limits.size_bytes:
            return False
        free = self._space(self._files.root).free
        lacking = self._limits.shortfall(rows.usage(), free, wanted)
        if lacking <= 0:
            return True
        for row in rows.oldest(_EVICTED_AT_ONCE, stale_before_ns=self._stale_before_ns()):
            self._drop(rows, row)
            self._counters.add("evictions")
            lacking -= row.bytes
            if lacking <= 0:
                return True
        return False

    def _drop(self, rows: Rows, row: Row) -> None:
        """The file first: killed in between, a row without file is the lesser lie."""
        self._files.discard(row.name)
        if row.token is not None:
            self._files.discard_temporary(row.name, row.token)
        rows.remove(row.name)

    def _stale_before_ns(self) -> int:
        return self._clock_ns() - STALE_NS

    def _taken_touches(self) -> list[tuple[int, bytes]]:
        with self._lock:
            taken, self._touches = self._touches, {}
            self._touched_ns = self._clock_ns()
        return [(used, block.name) for block, used in taken.items()]

    def _write_touches(self) -> None:
        taken = self._taken_touches()
        try:
            with self._index.transaction() as rows:
                rows.touch(taken)
        except IndexUnusable as error:
            self._complaints.say("cache.uses_not_written", reason=str(error))

    def _remove_damaged(self, block: BlockId, reason: str) -> None:
        """Its row stays until the block is stored again or evicted."""
        self._counters.add("damaged")
        self._complaints.say("cache.damaged", key=block.key, start=block.start, reason=reason)
        try:
            self._files.discard(block.name)
        except OSError as error:
            self._complaints.say("cache.damaged_stays", key=block.key, reason=str(error))

    def _fill(self, block: BlockId, token: int, data: bytes) -> bool:
        """Writes a reserved block; False, with the room given back, if that did not work."""
        try:
            self._files.write(block, token, data)
            with self._index.transaction() as rows:
                kept = rows.settle(block.name, token)
                if kept:
                    self._files.publish(block.name, token)
        except (OSError, IndexUnusable) as error:
            self._complaints.say("cache.not_written", reason=str(error))
            kept = False
        if kept:
            self._counters.add("stored_bytes", block.size)
        else:
            self._give_back(block, token)
        return kept

    def _give_back(self, block: BlockId, token: int) -> None:
        """A row that cannot be removed now goes when it is stale."""
        self._counters.add("not_kept")
        try:
            self._files.discard_temporary(block.name, token)
            with self._index.transaction() as rows:
                row = rows.find(block.name)
                if row is not None and row.token == token:
                    rows.remove(block.name)
        except (OSError, IndexUnusable) as error:
            self._complaints.say("cache.room_not_given_back", reason=str(error))


class _Room:
    """One reservation of a BlockCache."""

    def __init__(self, cache: BlockCache, block: BlockId, token: int) -> None:
        self._cache = cache
        self._block = block
        self._token = token

    def store(self, data: bytes) -> bool:
        if len(data) != self._block.size:
            raise ValueError(f"{len(data)} bytes for a block of {self._block.size}")
        return self._cache._fill(self._block, self._token, data)

    def cancel(self) -> None:
        self._cache._give_back(self._block, self._token)
