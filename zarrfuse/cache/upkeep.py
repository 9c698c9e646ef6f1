"""What a person does to a cache directory: look at it, clear it, check it. Daemons may be using it.

Files are removed at any time, for a missing file is a miss. Rows are changed only in transactions
of the index, and only where the files prove them wrong, so that no daemon meets half a change.
Nothing is removed but regular files that bear the name of a block, in the place of that block.

Knows no terminal and no configuration. Errors are CacheRefused, IndexUnusable (it was busy; what
was done stays done) and OSError.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from zarrfuse.cache.blocks import FORMAT_DIRECTORY, NOT_THE_FILE
from zarrfuse.cache.counters import Complaints
from zarrfuse.cache.eviction import STALE_NS
from zarrfuse.cache.files import BlockFiles, Damaged
from zarrfuse.cache.format import HEADER, BlockId
from zarrfuse.cache.index import Index
from zarrfuse.cache.rows import SCHEMA_VERSION, Row, Rows
from zarrfuse.core.keys import ETag, Key

#: Rows that one transaction looks at: some milliseconds, of the second that a daemon would wait.
_AT_ONCE = 64
#: Pause between transactions: daemons ask for the index every half millisecond and must find a gap.
_PAUSE_S = 0.005
#: For `Rows.oldest`: all of them, reservations too.
_ALL, _EVER_NS = -1, 2**63 - 1

T = TypeVar("T")
#: Called with bytes done and bytes in all.
Progress = Callable[[int, int], None]


class CacheRefused(Exception):
    """This directory is left alone."""


class NoCache(CacheRefused):
    """There is nothing: no directory, or an empty one."""


class NotACache(CacheRefused):
    """Something else stands there."""


class NotOurs(CacheRefused):
    """The cache of another user, whose daemons could not use the files that we would make."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a cache holds. The uses are None where it holds nothing; without a readable index they
    are the times at which the blocks were stored."""

    blocks: int
    total_bytes: int
    reserved_bytes: int
    oldest_use_ns: int | None
    newest_use_ns: int | None


@dataclass(frozen=True, slots=True)
class Cleared:
    blocks: int
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class Verified:
    """`damaged`: reason to number of removed blocks; `adopted` files had no row, or no settled one;
    `rows_removed` had no file; `temporaries_removed` were left by processes that died."""

    good: int
    good_bytes: int
    damaged: Counter[str]
    adopted: int
    rows_removed: int
    temporaries_removed: int


def look(directory: Path) -> Kept:
    """What is kept there, by all daemons. Makes and changes nothing."""
    files = _files_of(directory)
    rows = _rows_of_index(files.root)
    if rows is None:
        rows = list(files.own())
    stored = [row for row in rows if row.token is None]
    uses = [row.used_ns for row in stored]
    return Kept(
        blocks=len(stored),
        total_bytes=sum(row.bytes for row in stored),
        reserved_bytes=sum(row.bytes for row in rows if row.token is not None),
        oldest_use_ns=min(uses, default=None),
        newest_use_ns=max(uses, default=None),
    )


def clear(directory: Path, progress: Progress) -> Cleared:
    """Removes every block that is there now. Those that daemons store meanwhile may stay.

    Files go first and without the index, so that a full disk, on which SQLite cannot write, can be
    cleared too.
    """
    files = _writable_files_of(directory)
    own = list(files.own())
    blocks = [row for row in own if row.token is None]
    total, freed = sum(row.bytes for row in blocks), 0
    for row in blocks:
        files.discard(row.name)
        freed += row.bytes
        progress(freed, total)
    with closing(_index_of(files)) as index:
        _Mending(files, index).remove_leftovers(own)
    return Cleared(len(blocks), freed)


def verify(directory: Path, progress: Progress) -> Verified:
    """Reads every block; removes the damaged, and makes files and index agree."""
    files = _writable_files_of(directory)
    own = list(files.own())
    blocks = [row for row in own if row.token is None]
    total, done = sum(row.bytes for row in blocks), 0
    good: list[Row] = []
    damaged: Counter[str] = Counter()
    for row in blocks:
        try:
            if files.check(row.name):
                good.append(row)
        except Damaged as error:
            damaged[str(error)] += 1
            files.discard(row.name)
        done += row.bytes
        progress(done, total)
    with closing(_index_of(files)) as index:
        mending = _Mending(files, index)
        adopted = mending.adopt(good)
        temporaries, rows = mending.remove_leftovers(own)
    good_bytes = sum(row.bytes for row in good)
    return Verified(len(good), good_bytes, damaged, adopted, rows, temporaries)


class _OwnFiles(BlockFiles):
    """Block files as a stranger meets them: by name, without knowing which block each should be."""

    def own(self) -> Iterator[Row]:
        """`scan` without what only looks like a block: directories, links, misplaced files."""
        for row in self.scan():
            try:
                mode = self._path(row.name, row.token).lstat().st_mode
            except FileNotFoundError:
                continue  # evicted meanwhile, or misplaced
            if stat.S_ISREG(mode):
                yield row

    def check(self, name: bytes) -> bool:
        """Whether the block is there, and whole. Damaged: it is not what its name promises."""
        try:
            self.read(self._identity(name))
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno in NOT_THE_FILE:
                raise
            raise Damaged(f"it cannot be read ({error.strerror})") from error
        return True

    def _identity(self, name: bytes) -> BlockId:
        """Which block the file says it is; a lie shows in the digest that is its name."""
        with self._path(name).open("rb") as file:
            head = file.read(HEADER.size)
            if len(head) < HEADER.size:
                raise Damaged("its length is wrong")
            length = HEADER.unpack(head)[2]
            identity = file.read(min(length, os.fstat(file.fileno()).st_size))
        try:
            start, stop, etag, key, bucket = identity.decode("utf-8", "surrogatepass").split("\0")
            block = BlockId(bucket, Key(key), ETag(etag), int(start), int(stop))
        except ValueError:
            raise Damaged("its header or checksum is wrong") from None
        if block.name != name:
            raise Damaged("its header or checksum is wrong")
        return block


class _Mending:
    """Makes rows of files and removes rows without files, some at a time.

    Files get and lose their final names inside transactions (a removal may also come earlier), so
    what is seen in one is final.
    """

    def __init__(self, files: _OwnFiles, index: Index) -> None:
        self._files = files
        self._index = index
        self._stale_before_ns = time.time_ns() - STALE_NS

    def adopt(self, good: Sequence[Row]) -> int:
        """Has every one of the files counted; how many were not."""
        counted = {row.name for row in self._known() if row.token is None}
        return self._each([row for row in good if row.name not in counted], self._adopt_one)

    def remove_leftovers(self, own: Iterable[Row]) -> tuple[int, int]:
        """What dead processes left: numbers of temporary files and of rows removed."""
        old = [row for row in own if row.token is not None and row.used_ns < self._stale_before_ns]
        temporaries = self._each(old, self._remove_temporary)
        wrong = [row for row in self._known() if self._is_wrong(row)]
        return temporaries, self._each(wrong, self._remove_row)

    def _known(self) -> list[Row]:
        """All rows (3 us each), to find out what to look at again, some at a time."""
        with self._index.transaction() as rows:
            return rows.oldest(_ALL, stale_before_ns=_EVER_NS)

    def _each(self, items: Sequence[T], act: Callable[[Rows, T], bool]) -> int:
        acted = 0
        for at in range(0, len(items), _AT_ONCE):
            if at:
                time.sleep(_PAUSE_S)
            with self._index.transaction() as rows:
                acted += sum(act(rows, item) for item in items[at : at + _AT_ONCE])
        return acted

    def _adopt_one(self, rows: Rows, file: Row) -> bool:
        """A row still reserved beside a finished file: its writer died between the two."""
        row = rows.find(file.name)
        if not self._files.exists(file.name) or (row is not None and row.token is None):
            return False
        if row is None:
            rows.add([file])
        elif row.token is not None:
            rows.settle(row.name, row.token)
        return True

    def _remove_temporary(self, rows: Rows, file: Row) -> bool:
        row = rows.find(file.name)
        is_awaited = row is not None and row.token == file.token and self._is_alive(row)
        if file.token is None or is_awaited:
            return False
        self._files.discard_temporary(file.name, file.token)
        return True

    def _remove_row(self, rows: Rows, suspect: Row) -> bool:
        row = rows.find(suspect.name)
        if row is None or not self._is_wrong(row):
            return False
        if row.token is not None:
            self._files.discard_temporary(row.name, row.token)
        rows.remove(row.name)
        return True

    def _is_wrong(self, row: Row) -> bool:
        return not self._is_alive(row) and not self._files.exists(row.name)

    def _is_alive(self, row: Row) -> bool:
        """A reservation whose block may still come."""
        return row.token is not None and row.used_ns >= self._stale_before_ns


def _files_of(directory: Path) -> _OwnFiles:
    """The files of the cache in `directory`; NoCache or NotACache where there is none."""
    files = _OwnFiles(directory / FORMAT_DIRECTORY)
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        raise NoCache(f"there is no cache in {directory}")
    if files.root.is_symlink() or not files.root.is_dir() or not _is_cache(files):
        raise NotACache(f"{directory} is no cache of zarrfuse")
    return files


def _is_cache(files: _OwnFiles) -> bool:
    """Whether something in the directory shows that we made it; a cache never used is empty."""
    names = {path.name for path in files.root.iterdir()}
    return not names or "index.lock" in names or next(files.own(), None) is not None


def _writable_files_of(directory: Path) -> _OwnFiles:
    files = _files_of(directory)
    owner = files.root.stat().st_uid
    if owner != os.geteuid():
        raise NotOurs(f"the cache in {directory} belongs to the user with uid {owner}")
    return files


def _index_of(files: _OwnFiles) -> Index:
    return Index(files.root, files.own, Complaints())


def _rows_of_index(root: Path) -> list[Row] | None:
    """All rows, without waiting for writers; None where no index can be read."""
    newest = max(root.glob("index-*.sqlite"), default=None)
    if newest is None:
        return None
    uri = f"{newest.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA_VERSION:
                return None
            return Rows(connection).oldest(_ALL, stale_before_ns=_EVER_NS)
    except sqlite3.Error:  # damaged or just replaced: the files themselves say it as well
        return None
