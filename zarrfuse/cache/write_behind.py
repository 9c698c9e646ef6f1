"""Blocks on their way to disk: found by readers meanwhile, written some at a time by one thread.

Owns the queue, its bound and its thread. Knows no files and no index: `write` does the work, raises
nothing for trouble of the disk, and is never called under the lock; `tidy` is called after it, by
the thread alone. Who finds the queue full writes
some itself: a disk slower than the network slows the fetches down, and memory stays bounded.

`_lock` is a leaf.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from zarrfuse.cache.format import BlockId
from zarrfuse.config import MIB

log = structlog.get_logger(__name__)

#: A batch gathers so long. What is found on the way is lost with a daemon that is killed.
_GATHER_S = 0.05
#: Most blocks of a batch: their names are given in one transaction, 25 us each (measured).
_BATCH_BLOCKS = 128
#: Most bytes of it, so that several threads share the work.
_BATCH_BYTES = 8 * MIB
#: Most bytes that wait before the fetching threads write as well: 0.1 s of a disk of 300 MB/s.
MAX_WAITING_BYTES = 32 * MIB


class Waiting(NamedTuple):
    """A block to be written, whose file will be counted as `disk_bytes`."""

    block: BlockId
    name: bytes
    data: bytes
    disk_bytes: int
    used_ns: int


class WriteBehind:
    """Thread-safe. The thread is started by the first use and ended by `close`."""

    def __init__(
        self,
        write: Callable[[Sequence[Waiting]], None],
        tidy: Callable[[], None],
        *,
        max_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self._write = write
        self._tidy = tidy
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._written = threading.Condition(self._lock)
        self._queue: dict[BlockId, Waiting] = {}
        self._writing: dict[BlockId, Waiting] = {}
        self._held_bytes = 0
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, waiting: Waiting) -> bool:
        """Takes a block in; False where it is on its way already, or after `close`."""
        with self._lock:
            if self._closing.is_set() or self._holds(waiting.block):
                return False
            self._queue[waiting.block] = waiting
            self._held_bytes += len(waiting.data)
            full = self._held_bytes > self._max_bytes
        self.wake()
        if full:
            self._write_some()
        return True

    def wake(self) -> None:
        """Has the thread write, and tidy, soon."""
        if self._awake.is_set():
            return
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)
                self._thread.start()
        self._awake.set()

    def find(self, block: BlockId) -> bytes | None:
        """The data of a block that is on its way."""
        with self._lock:
            found = self._queue.get(block) or self._writing.get(block)
        return None if found is None else found.data

    def holds(self, block: BlockId) -> bool:
        with self._lock:
            return self._holds(block)

    def drain(self) -> bool:
        """Returns when all that was taken in is written; whether there was anything."""
        any_written = self._write_all()
        with self._written:
            others = list(self._writing.values())
            self._written.wait_for(lambda: not any(map(self._is_being_written, others)))
        return any_written or bool(others)

    def close(self) -> None:
        """Writes what is left. Later blocks are not taken in."""
        with self._lock:
            self._closing.set()
            thread = self._thread
        self._awake.set()
        if thread is not None:
            thread.join()
        self.drain()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._awake.wait()
            self._closing.wait(_GATHER_S)
            self._awake.clear()
            self._write_all()
            self._tidied()

    def _write_all(self) -> bool:
        any_written = False
        while self._write_some():
            any_written = True
        return any_written

    def _write_some(self) -> bool:
        """Writes one batch; False if there was none."""
        batch = self._take()
        if not batch:
            return False
        try:
            self._write(batch)
        except Exception:
            log.exception("blocks could not be written, unexpectedly")
        finally:
            self._done(batch)
        return True

    def _tidied(self) -> None:
        try:
            self._tidy()
        except Exception:
            log.exception("the cache could not be tidied, unexpectedly")

    def _take(self) -> list[Waiting]:
        """The oldest of the queue: at least one, if there is one."""
        batch: list[Waiting] = []
        room = _BATCH_BYTES
        with self._lock:
            while self._queue and len(batch) < _BATCH_BLOCKS and room > 0:
                block = next(iter(self._queue))
                waiting = self._writing[block] = self._queue.pop(block)
                batch.append(waiting)
                room -= len(waiting.data)
        return batch

    def _done(self, batch: Sequence[Waiting]) -> None:
        with self._written:
            for waiting in batch:
                del self._writing[waiting.block]
                self._held_bytes -= len(waiting.data)
            self._written.notify_all()

    def _is_being_written(self, waiting: Waiting) -> bool:
        return self._writing.get(waiting.block) is waiting

    def _holds(self, block: BlockId) -> bool:
        return block in self._queue or block in self._writing
