"""The statements of the block index: which block, how big, used when, reserved by whom.

Knows SQL and nothing else: no files, no limits, no locks. Every call is made inside a transaction
of zarrfuse.cache.index. Triggers keep the totals, so that they cannot drift from the rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from zarrfuse.cache.limits import Usage

#: `PRAGMA user_version` of an index with this schema.
SCHEMA_VERSION = 1

SCHEMA = f"""
CREATE TABLE block (
    name BLOB PRIMARY KEY, bytes INTEGER NOT NULL, used INTEGER NOT NULL, token INTEGER
) WITHOUT ROWID;
CREATE INDEX block_used ON block (used);
CREATE INDEX block_reserved ON block (bytes) WHERE token IS NOT NULL;
CREATE TABLE total (blocks INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO total VALUES (0, 0);
CREATE TRIGGER block_added AFTER INSERT ON block BEGIN
    UPDATE total SET blocks = blocks + 1, bytes = bytes + new.bytes;
END;
CREATE TRIGGER block_removed AFTER DELETE ON block BEGIN
    UPDATE total SET blocks = blocks - 1, bytes = bytes - old.bytes;
END;
PRAGMA user_version = {SCHEMA_VERSION};
"""


class Row(NamedTuple):
    """One block, or room booked for some. `used_ns` since the epoch; `token` of who reserved it,
    None once it is stored."""

    name: bytes
    bytes: int
    used_ns: int
    token: int | None


class Rows:
    """The rows, as one open transaction sees them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany

    def usage(self) -> Usage:
        rows, total = self._execute("SELECT blocks, bytes FROM total").fetchone()
        reservations, reserved = self._execute(
            "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM block WHERE token IS NOT NULL"
        ).fetchone()
        return Usage(rows - reservations, total, reserved)

    def find(self, name: bytes) -> Row | None:
        found = self._execute("SELECT * FROM block WHERE name = ?", (name,)).fetchone()
        return None if found is None else Row(*found)

    def oldest(self, count: int, *, stale_before_ns: int) -> list[Row]:
        """The least recently used, without reservations that may still be alive."""
        found = self._execute(
            "SELECT * FROM block WHERE token IS NULL OR used < ? ORDER BY used LIMIT ?",
            (stale_before_ns, count),
        )
        return [Row(*row) for row in found]

    def add(self, rows: Iterable[Row]) -> None:
        """Those whose name is not there yet."""
        self._executemany("INSERT OR IGNORE INTO block VALUES (?, ?, ?, ?)", rows)

    def remove(self, name: bytes) -> None:
        self._execute("DELETE FROM block WHERE name = ?", (name,))

    def settle(self, name: bytes, token: int) -> bool:
        """The reservation is stored now; False if it is no longer that one's."""
        changed = self._execute(
            "UPDATE block SET token = NULL WHERE name = ? AND token = ?", (name, token)
        )
        return changed.rowcount == 1

    def touch(self, used_ns: Iterable[tuple[int, bytes]]) -> None:
        """Later uses of blocks; those that are gone meanwhile stay gone."""
        self._executemany("UPDATE block SET used = MAX(used, ?1) WHERE name = ?2", used_ns)
