"""The index file that daemons sharing a cache directory agree on: one SQLite database, WAL.

Owns the connection and its troubles. An index that cannot be had now (locked, disk full) rests for
some seconds and the cache does without; one that is corrupt, missing or foreign is replaced by a
new one, made from a scan of the files. Knows no block contents and no limits.

A replacement gets a new number, index-<nanoseconds>.sqlite, and the old file is unlinked: SQLite
removes journals by name when it closes, so a name must never stand for two databases. Each
transaction checks that its file still has its name, so other processes move over by themselves.

Lock order: `_lock`, then the database's write lock. An unlink or a rename may happen under both:
that is what keeps rows and files together across a kill -9. Data is never read or written there.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from zarrfuse.cache.counters import Complaints
from zarrfuse.cache.rows import SCHEMA, SCHEMA_VERSION, Row, Rows

_NAME = re.compile(r"index-(\d{1,20})\.sqlite")
#: How long a transaction waits for those of other processes (0.2 ms each, 40 if they evict much).
_BUSY_S = 1.0
#: Pause between tries of it: less than a few transactions, so that a gap between two is found.
_RETRY_S = 0.0005
#: How long the cache does without an index that failed.
_REST_S = 5.0
#: Trouble that a new index would not mend.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
    }
)


class IndexUnusable(Exception):
    """There is no index to ask right now."""


class Index:
    """Transactions on the rows. Opens the database at the first one."""

    def __init__(
        self,
        directory: Path,
        scan: Callable[[], Iterable[Row]],
        complaints: Complaints,
        *,
        busy_s: float = _BUSY_S,
        rest_s: float = _REST_S,
    ) -> None:
        self._directory = directory
        self._scan = scan
        self._complaints = complaints
        self._busy_s = busy_s
        self._rest_s = rest_s
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._connection: sqlite3.Connection | None = None
        self._rests_until = 0.0
        self._closed = False

    @contextmanager
    def transaction(self) -> Iterator[Rows]:
        """All that is done in the body, or nothing. IndexUnusable at any point of it."""
        with self._lock:
            if self._closed:
                raise IndexUnusable("it is closed")
            if time.monotonic() < self._rests_until:
                raise IndexUnusable("it failed a moment ago")
            try:
                connection = self._connected()
                self._begin(connection)
                try:
                    yield Rows(connection)
                except BaseException:
                    connection.rollback()
                    raise
                connection.execute("COMMIT")
            except (sqlite3.Error, OSError) as error:
                self._failed(error)
                raise IndexUnusable(str(error)) from error

    def close(self) -> None:
        """For good: a late fetch must not open it again, and book what nobody gives back."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._path is not None and self._path.exists():
            return self._connection
        self._disconnect()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _flock(self._directory / "index.lock", self._busy_s):
            self._path, self._connection = self._opened()
        return self._connection

    def _opened(self) -> tuple[Path, sqlite3.Connection]:
        numbered = _numbered(self._directory)
        if numbered:
            path = numbered[max(numbered)]
            try:
                return path, _open(path, self._busy_s)
            except sqlite3.Error as error:
                if _is_passing(error):
                    raise
                self._complaints.say("cache.index.rebuilt", path=str(path), reason=str(error))
        number = max(time.time_ns(), *(old + 1 for old in numbered), 0)
        path = self._directory / f"index-{number}.sqlite"
        _unlink(numbered.values())
        _make(path, self._scan())
        return path, _open(path, self._busy_s)

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Waits for other processes. SQLite's own wait backs off to 100 ms and starves (measured:
        for more than 1 s) beside a process that comes back within microseconds."""
        deadline = time.monotonic() + self._busy_s
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                is_locked = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_locked or time.monotonic() >= deadline:
                    raise
                time.sleep(_RETRY_S)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, sqlite3.Error) and not _is_passing(error) and self._path is not None:
            self._complaints.say("cache.index.damaged", path=str(self._path), reason=str(error))
            _unlink([self._path])
        else:
            self._complaints.say("cache.index.bypassed", reason=str(error))
            self._rests_until = time.monotonic() + self._rest_s
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._path = self._connection = None


def _open(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection to an index of our schema; sqlite3.DatabaseError if it is none."""
    connection = sqlite3.connect(
        path, timeout=busy_s, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA busy_timeout = 0")  # from here on `Index._begin` waits
        connection.execute("PRAGMA synchronous = OFF")  # it can be made again from the files
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"schema version {version}")
        Rows(connection).usage()
    except BaseException:
        connection.close()
        raise
    return connection


def _make(path: Path, rows: Iterable[Row]) -> None:
    """Writes a new index under another name first: a half-made one is never opened."""
    draft = path.with_name("index.draft")
    _unlink([draft])
    draft.touch(mode=0o600)
    with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(SCHEMA)
        connection.execute("BEGIN")
        Rows(connection).add(rows)
        connection.execute("COMMIT")
    draft.rename(path)


def _numbered(directory: Path) -> dict[int, Path]:
    found = ((_NAME.fullmatch(path.name), path) for path in directory.iterdir())
    return {int(match[1]): path for match, path in found if match}


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        for suffix in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _is_passing(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)  # absent where Python, not SQLite, complains
    return code is not None and code & 0xFF in _PASSING


@contextmanager
def _flock(path: Path, patience_s: float) -> Iterator[None]:
    """Holds the lock file against other processes; TimeoutError (an OSError) if they do not let go.

    Whoever scans a big cache for a new index holds it for a second or more.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + patience_s
        while not _try_flock(fd):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{path} is locked")
            time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def _try_flock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
