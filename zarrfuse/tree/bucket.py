"""The bucket as a directory tree, read and write.

Composes listing, cache and spool into paths; makes every decision about what a path is, and none
about how bytes travel. A directory hides an object of the same name.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import structlog
from cachetools import LRUCache

from zarrfuse.core.attributes import Attributes
from zarrfuse.core.keys import (
    MAX_KEY_BYTES,
    MAX_NAME_BYTES,
    Key,
    ObjectMeta,
    Prefix,
    is_key_text,
    is_other_form,
    path_key,
)
from zarrfuse.core.temporary import Temporary, temporary_by_name
from zarrfuse.core.zarr.names import is_metadata_name
from zarrfuse.errors import (
    AlreadyExists,
    CrossTree,
    EntryExists,
    IsDirectory,
    NameRefused,
    NameTooLong,
    NoEntry,
    NotDirectory,
    NotEmpty,
    NotFound,
    NotOffered,
    VersionChanged,
)
from zarrfuse.listing.listing import Listing
from zarrfuse.listing.rows import Row
from zarrfuse.spool.written import OldName, WrittenFiles
from zarrfuse.spool.written_file import WrittenFile
from zarrfuse.store.base import Copy, Delete, Head
from zarrfuse.tree.base import Handle, Opening, ReadOnlyHandle

log = structlog.get_logger(__name__)

#: mtimes that programs gave to published versions are remembered for so many of them.
_MAX_TIMES = 100_000


class Reader(Protocol):
    """Bytes of one version, from wherever they are nearest."""

    def read(self, meta: ObjectMeta, start: int, stop: int) -> bytes: ...


class Changes(Copy, Delete, Head, Protocol):
    """What the tree asks of the bucket itself; everything else goes through listing and spool."""


class Times:
    """The mtimes that programs gave to versions, while this daemon runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: LRUCache[tuple[Key, str], int] = LRUCache(_MAX_TIMES)

    def give(self, meta: ObjectMeta, mtime_ns: int) -> None:
        with self._lock:
            self._times[meta.key, meta.etag] = mtime_ns

    def of(self, meta: ObjectMeta) -> int:
        with self._lock:
            return self._times.get((meta.key, meta.etag), meta.modified_ns)


class Watch(Protocol):
    """Who guesses what programs want next."""

    def opened(self, meta: ObjectMeta) -> None:
        """A program opened the object."""
        ...

    def is_sharded(self, meta: ObjectMeta) -> bool:
        """Whether programs want small parts of the object."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a BucketTree is built from. `watch` None: nobody guesses."""

    listing: Listing
    reader: Reader
    written: WrittenFiles
    changes: Changes
    times: Times
    rename_max_objects: int
    watch: Watch | None = None


class ReadHandle(ReadOnlyHandle):
    """An open object: every byte it gives is of the version it was opened at."""

    def __init__(self, tree: BucketTree, meta: ObjectMeta, attributes: Attributes) -> None:
        self._tree = tree
        self._meta = meta
        self.attributes = attributes

    def read(self, offset: int, size: int) -> bytes:
        return self._tree.read_version(self._meta, offset, min(offset + size, self._meta.size))


class BucketTree:
    """See the module. Implements tree.base.Tree."""

    def __init__(self, parts: Parts) -> None:
        self._listing = parts.listing
        self._reader = parts.reader
        self._written = parts.written
        self._changes = parts.changes
        self._times = parts.times
        self._rename_max_objects = parts.rename_max_objects
        self._watch = parts.watch
        self._started_ns = time.time_ns()

    # What stands there ---------------------------------------------------------------------

    def attributes(self, path: str) -> Attributes:
        key = _key(path)
        written = self._written.find(key)
        if written is not None:
            return written.attributes
        return self._attributes_of(self._entry(key))

    def entries(self, path: str) -> Iterator[tuple[str, Attributes]]:
        prefix = _key(path).as_prefix
        listed = self._listing.children(prefix, stale_ok=True)
        rows = {name: self._attributes_of(row) for name, row in listed}
        if not rows and not self._listing.is_directory(prefix, stale_ok=True):
            raise self._not_a_directory(prefix)
        for file in self._written.children(prefix):
            if file.temporary is None:
                rows[file.key.name] = file.attributes
        return iter(sorted(rows.items()))

    def read_version(self, meta: ObjectMeta, start: int, stop: int) -> bytes:
        """Bytes of exactly that version. VersionChanged once it is gone; the listing learns it."""
        if start >= stop:
            return b""
        try:
            return self._reader.read(meta, start, stop)
        except (VersionChanged, NotFound) as error:
            self._listing.correct(meta.key)
            raise VersionChanged(f"{meta.key} was replaced while it was read") from error

    # Files ---------------------------------------------------------------------------------

    def open(self, path: str, how: Opening) -> Handle:
        key = _key(path)
        if how.read_only and self._written.find(key) is None:
            meta = self._file(key)
            if self._watch is not None:
                self._watch.opened(meta)
            return ReadHandle(self, meta, self._attributes_of(meta))
        base = self._base(key)
        if how.truncate:
            return self._start(key, base, how)
        return self._written.open(key, base, opener=how.opener)

    def create(self, path: str, how: Opening) -> Handle:
        key = _writable_key(path)
        base: ObjectMeta | None = None
        if how.exclusive:  # never by what was known once
            entry = self._listing.listed(key.parent, key.name, stale_ok=False)
        else:  # the kernel has looked the name up just before
            entry = self._listing.remembered(key.parent, key.name)
        if isinstance(entry, Prefix):
            raise IsDirectory(path)
        if entry is not None:
            base = entry
        if how.exclusive and (base is not None or self._written.find(key) is not None):
            raise EntryExists(path)
        return self._start(key, base, how)

    def truncate(self, path: str, size: int) -> None:
        key = _key(path)
        handle = self._written.open(key, self._base(key), opener=0)
        try:
            handle.truncate(size)
            if handle.file.handles == 1:  # else a program is writing it, and its close publishes
                handle.sync()
        finally:
            handle.release()

    def set_time(self, path: str, mtime_ns: int) -> None:
        key = _key(path)
        file = self._written.find(key)
        if file is not None:
            file.given_mtime_ns = file.mtime_ns = mtime_ns
        entry = self._listing.lookup(key.parent, key.name) if file is None else file.base
        if isinstance(entry, ObjectMeta) and (file is None or not file.dirty):
            self._times.give(entry, mtime_ns)

    def unlink(self, path: str) -> None:
        key = _key(path)
        file = self._written.find(key)
        if file is not None:
            self._written.unlink(file, lambda: self._delete(key))
        elif isinstance(self._entry(key), Prefix):
            raise IsDirectory(path)
        else:
            self._delete(key)

    def link(self, existing: str, new: str) -> None:
        """Publishes a temporary file under a second name, which must be free; no other links."""
        source, target = _key(existing), _writable_key(new)
        file = self._written.find(source)
        if file is None or file.temporary is None:
            raise NotOffered("hard links: a bucket has none")
        taken = self._listing.remembered(target.parent, target.name) is not None
        if taken or self._written.find(target) is not None:
            raise EntryExists(new)
        try:
            file.publish_copy(target)
        except AlreadyExists:
            self._listing.forget(target)
            raise

    # Directories ---------------------------------------------------------------------------

    def mkdir(self, path: str) -> None:
        key = _writable_key(path)
        if self._written.find(key) or self._listing.remembered(key.parent, key.name):
            raise EntryExists(path)
        self._listing.note_mkdir(key.as_prefix)

    def rmdir(self, path: str) -> None:
        prefix = _key(path).as_prefix
        if not self._listing.is_directory(prefix):
            raise self._not_a_directory(prefix)
        below = self._written.below(prefix)
        if self._listing.children(prefix) or not all(map(_is_scrap, below)):
            raise NotEmpty(path)
        # A marker, or a key that cannot be a file name, may stand there unseen.
        for meta in self._listing.walk(prefix):
            if meta.key != prefix.marker:
                self._listing.forget(meta.key)
                raise NotEmpty(path)
            self._delete(meta.key)
        for file in below:
            self._written.unlink(file, lambda: None)
        self._listing.note_rmdir(prefix)

    def rename(self, old: str, new: str) -> None:
        source, target = _key(old), _writable_key(new)
        if source == target:
            return
        file = self._written.find(source)
        if file is not None:
            self._refuse_directory(target)
            self._written.rename(file, target, OldName(self._copy_known, self._delete))
            return
        entry = self._entry(source)
        if isinstance(entry, Prefix):
            self._rename_directory(entry, target.as_prefix)
        else:
            self._rename_object(entry, target)

    def drain(self) -> None:
        self._written.drain()

    # Inside --------------------------------------------------------------------------------

    def _entry(self, key: Key, *, stale_ok: bool = True) -> Row:
        """What has this name in the bucket; NoEntry. Temporary names are never asked for.
        `stale_ok`: see Listing.lookup."""
        if not key:
            return Prefix("")
        if temporary_by_name(key.name) is Temporary.CERTAIN:
            raise NoEntry(key)
        row = self._listing.fresh(key.parent, key.name)
        if row is None or (isinstance(row, ObjectMeta) and not row.size):
            _check_name(key)
            row = self._listing.lookup(key.parent, key.name, stale_ok=stale_ok)
        if row is None:
            raise NoEntry(key)
        return row

    def _file(self, key: Key, *, stale_ok: bool = True) -> ObjectMeta:
        entry = self._entry(key, stale_ok=stale_ok)
        if isinstance(entry, Prefix):
            raise IsDirectory(key)
        return entry

    def _base(self, key: Key) -> ObjectMeta | None:
        """What a writer of this name starts from: never a version that was known once, for what
        he writes would undo another client's changes since."""
        file = self._written.find(key)
        return self._file(key, stale_ok=False) if file is None else file.base

    def _start(self, key: Key, base: ObjectMeta | None, how: Opening) -> Handle:
        return self._written.create(
            key, base, opener=how.opener, exclusive=how.exclusive, mode=how.mode
        )

    def _attributes_of(self, row: Row) -> Attributes:
        if isinstance(row, Prefix):
            return Attributes(is_directory=True, size=0, mtime_ns=self._started_ns)
        return Attributes(
            is_directory=False,
            size=row.size,
            mtime_ns=self._times.of(row),
            version=row.etag,
            in_parts=self._watch is not None and self._watch.is_sharded(row),
        )

    def _not_a_directory(self, prefix: Prefix) -> NoEntry | NotDirectory:
        key = prefix.as_key
        if self._written.find(key) or self._listing.lookup(key.parent, key.name) is not None:
            return NotDirectory(key)
        return NoEntry(key)

    def _rename_object(self, meta: ObjectMeta, target: Key) -> None:
        self._refuse_directory(target)
        # libfuse's .fuse_hidden: an object removed while it is open for reading. Its name goes
        # now, its reader goes on from the cache, and gets ESTALE beyond that.
        if not _is_hidden(target):
            self._copy(meta, target)
            replaced = self._written.find(target)
            if replaced is not None:
                self._written.unlink(replaced, lambda: None)
        self._delete(meta.key)

    def _copy_known(self, source: Key, target: Key) -> ObjectMeta:
        return self._copy(self._file(source), target)

    def _refuse_directory(self, target: Key) -> None:
        if isinstance(self._listing.remembered(target.parent, target.name), Prefix):
            raise IsDirectory(target)

    def _delete(self, key: Key) -> None:
        self._changes.delete(key)
        self._listing.note_deleted(key)

    def _copy(self, meta: ObjectMeta, target: Key) -> ObjectMeta:
        try:
            copied = self._changes.copy(meta.key, target, if_match=meta.etag)
        except VersionChanged:
            head = self._changes.head(meta.key)
            if not is_other_form(meta, head):
                raise
            copied = self._changes.copy(meta.key, target, if_match=head.etag)
        self._times.give(copied, self._times.of(meta))
        self._listing.note_put(copied)
        return copied

    def _rename_directory(self, source: Prefix, target: Prefix) -> None:
        """Chunks first, metadata last; deletes the other way round: no half store looks whole."""
        if target.startswith(source):
            raise NameRefused(f"{target} lies in {source}")
        standing = self._listing.remembered(target.parent, target.name)
        if isinstance(standing, ObjectMeta):
            raise NotDirectory(target.as_key)
        if self._listing.is_directory(target) and self._listing.children(target):
            raise NotEmpty(target)
        objects = self._objects_to_move(source)
        inside = self._written.below(source)
        if inside:
            raise CrossTree(f"{inside[0].key} is not published yet")
        objects.sort(key=lambda meta: is_metadata_name(meta.key.name))
        for meta in objects:
            self._copy(meta, Key(target + meta.key.under(source)))
        for meta in reversed(objects):
            self._delete(meta.key)
        if not objects:
            self._listing.note_mkdir(target)
        self._move_empty_directories(source, target)

    def _objects_to_move(self, source: Prefix) -> list[ObjectMeta]:
        objects = []
        for meta in self._listing.walk(source):
            objects.append(meta)
            if len(objects) > self._rename_max_objects:
                raise CrossTree(f"{source} has more than {self._rename_max_objects} objects")
        return objects

    def _move_empty_directories(self, source: Prefix, target: Prefix) -> None:
        """The source's directories, which have no objects left, are gone; empty ones move."""
        for name, row in self._listing.children(source):
            if isinstance(row, Prefix):
                moved = target.directory(name)
                if not self._listing.is_directory(moved):
                    self._listing.note_mkdir(moved)
                self._move_empty_directories(row, moved)
        self._listing.note_rmdir(source)


def _is_hidden(target: Key) -> bool:
    return temporary_by_name(target.name) is Temporary.CERTAIN


def _is_scrap(file: WrittenFile) -> bool:
    """What a writer that was killed has left under a name that is never published, and that no
    listing of the directory shows: its owner could not remove it otherwise."""
    return file.temporary is Temporary.CERTAIN and file.handles == 0


def _key(path: str) -> Key:
    return path_key(path)


def _check_name(key: Key) -> None:
    if not is_key_text(key):
        if len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
            raise NameTooLong(f"a key has at most {MAX_KEY_BYTES} bytes")
        raise NameRefused("the name is not UTF-8")


def _writable_key(path: str) -> Key:
    """The key of something to be made: what the bucket could not hold is refused at once."""
    key = _key(path)
    _check_name(key)
    if len(key.name.encode()) > MAX_NAME_BYTES:
        raise NameTooLong(f"a name has at most {MAX_NAME_BYTES} bytes")
    return key
