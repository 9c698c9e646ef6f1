"""Writes blocks to disk, many together: rows as reservations, files under temporary names, and in
one index transaction the final names and settled rows.

So every file that a kill -9 can leave behind has a row that counts it. Nothing is raised for
trouble of the disk: it is counted, said once, and leaves nothing behind.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from functools import partial

from zarrfuse.cache.allowance import Allowance
from zarrfuse.cache.counters import Complaints, Counters
from zarrfuse.cache.eviction import Eviction
from zarrfuse.cache.files import BlockFiles
from zarrfuse.cache.index import Index, IndexUnusable
from zarrfuse.cache.rows import Row, Rows
from zarrfuse.cache.write_behind import Waiting


class Storing:
    """Turns drawn room of `allowance` into stored blocks. Safe from any thread."""

    def __init__(
        self,
        index: Index,
        files: BlockFiles,
        eviction: Eviction,
        allowance: Allowance,
        complaints: Complaints,
        counters: Counters,
    ) -> None:
        """Counts "stored_bytes" and "not_kept"."""
        self._index = index
        self._files = files
        self._eviction = eviction
        self._allowance = allowance
        self._complaints = complaints
        self._counters = counters

    def write(self, batch: Sequence[Waiting]) -> None:
        """Rows, then files, then names; what could not be kept leaves nothing behind."""
        token = secrets.randbits(62)
        admitted = self._admit(batch, token)
        written = [waiting for waiting in admitted if self._write_file(waiting, token)]
        kept = self._publish(written, token)
        self._counters.add("stored_bytes", sum(waiting.block.size for waiting in kept))
        names = {waiting.name for waiting in kept}  # a set of them all would hash their bytes
        lost = [waiting for waiting in admitted if waiting.name not in names]
        if lost:
            self._withdraw(lost, token)

    def _admit(self, batch: Sequence[Waiting], token: int) -> list[Waiting]:
        """Makes rows of drawn room, for those that nobody else has stored or is storing."""
        total = sum(waiting.disk_bytes for waiting in batch)
        admitted: list[Waiting] = []
        began = False
        try:
            with self._index.transaction() as rows:
                began = True
                has_room = self._allowance.spend(rows, total, partial(self._eviction.room, rows))
                if has_room:
                    admitted = [one for one in batch if self._eviction.vacate(rows, one.name)]
                rows.add(Row(one.name, one.disk_bytes, one.used_ns, token) for one in admitted)
        except IndexUnusable:
            if began:
                self._allowance.forget()
            has_room, admitted = False, []
        finally:
            self._allowance.put_back(total)
        if not has_room:
            self._counters.add("not_kept", len(batch))
        return admitted

    def _write_file(self, waiting: Waiting, token: int) -> bool:
        try:
            self._files.write(waiting.block, token, waiting.data)
        except OSError as error:
            self._complaints.say("cache.not_written", reason=str(error))
            return False
        return True

    def _publish(self, written: Sequence[Waiting], token: int) -> list[Waiting]:
        try:
            with self._index.transaction() as rows:
                return [waiting for waiting in written if self._settle(rows, waiting.name, token)]
        except IndexUnusable as error:
            self._complaints.say("cache.not_written", reason=str(error))
            return []

    def _settle(self, rows: Rows, name: bytes, token: int) -> bool:
        """False where the reservation became stale and gave way, or the file is gone."""
        if not rows.settle(name, token):
            return False
        try:
            self._files.publish(name, token)
        except OSError as error:
            self._complaints.say("cache.not_written", reason=str(error))
            rows.remove(name)
            return False
        return True

    def _withdraw(self, lost: Collection[Waiting], token: int) -> None:
        """Rows that cannot be removed now go when they are stale."""
        self._counters.add("not_kept", len(lost))
        try:
            with self._index.transaction() as rows:
                for waiting in lost:
                    self._files.discard_temporary(waiting.name, token)
                    row = rows.find(waiting.name)
                    if row is not None and row.token == token:
                        self._eviction.drop(rows, row)
        except IndexUnusable as error:
            self._complaints.say("cache.room_not_given_back", reason=str(error))
