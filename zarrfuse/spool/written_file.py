"""One file being written: its bytes in the spool, and how they become an object.

Knows its spool file and a `publish` callable; when it is to be published, `spool/written` decides.

A file's lock is held while its bytes are published, moved or removed, because a write would change
them; size and names are read without it, so that stat never waits for an upload.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from zarrfuse.core.attributes import Attributes
from zarrfuse.core.keys import ETag, Key, ObjectMeta
from zarrfuse.core.temporary import Temporary, temporary_by_name
from zarrfuse.errors import ZarrfuseError
from zarrfuse.spool.files import Spool, SpoolFile

#: A large object is fetched into the spool in pieces of this size.
_FETCH_BYTES = 16 * 1024**2


#: Gives the object of one key another key in the bucket, and answers what stands there.
Copy = Callable[[Key, Key], ObjectMeta]


class Publish(Protocol):
    def __call__(self, key: Key, file: SpoolFile, *, if_absent: bool = False) -> ObjectMeta:
        """Makes the file's bytes `key`; must not keep the file after it returns."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What the registry is built from.

    `read_base` gives the bytes [start, stop) of a published version; `failed` is told of errors
    that no program can be given any more. `settle_s` None: a likely temporary name is never
    published by itself.
    """

    spool: Spool
    publish: Publish
    read_base: Callable[[ObjectMeta, int, int], bytes]
    failed: Callable[[Key, ZarrfuseError], None]
    settle_s: float | None


class WrittenFile:
    """One file that programs write: shared by all handles on its name."""

    def __init__(
        self,
        rules: Rules,
        times: Callable[[ObjectMeta, int], None],
        key: Key,
        base: ObjectMeta | None,
        temporary: Temporary | None,
    ) -> None:
        self._rules = rules
        self._times = times
        self.key = key
        self.base = base
        self.temporary = temporary
        self.dirty = False
        self.unlinked = False
        self.visible = True
        """False after a failed publication: the tree shows the bucket's version again."""
        self.mtime_ns = time.time_ns()
        self.given_mtime_ns: int | None = None
        self.handles = 0
        self.lock = threading.RLock()
        self.settle: threading.Timer | None = None
        self._file: SpoolFile | None = None
        self._reason = ""

    @property
    def size(self) -> int:
        """Bytes as a reader of this mount sees them."""
        if self._file is not None:
            return self._file.size
        return self.base.size if self.base is not None else 0

    @property
    def attributes(self) -> Attributes:
        """As the tree shows them. Bytes that may change at any time have no version."""
        base = self.base
        return Attributes(
            is_directory=False,
            size=self.size,
            mtime_ns=self.mtime_ns,
            version=base.etag if base is not None and not self.dirty else "",
        )

    @property
    def is_as_published(self) -> bool:
        """Whether the bucket has its bytes, under its name."""
        return self.base is not None and not self.dirty and self.temporary is None

    def start_empty(self) -> None:
        """Created, or opened with O_TRUNC: whatever stood there is to be replaced."""
        with self.lock:
            self._spooled(keep=0).truncate(0)
            self._touch()

    def read(self, offset: int, size: int) -> bytes:
        with self.lock:
            if self._file is not None:
                return self._file.read(offset, size)
            base = self.base
        if base is None:
            return b""
        return self._rules.read_base(base, offset, min(offset + size, base.size))

    def write(self, offset: int, data: bytes) -> int:
        with self.lock:
            count = self._spooled(keep=None).write(offset, data)
            self._touch()
        return count

    def truncate(self, size: int) -> None:
        with self.lock:
            self._spooled(keep=size).truncate(size)
            self._touch()

    def sync(self) -> None:
        """fsync: published; a temporary name: durable in the spool."""
        with self.lock:
            if self.temporary is None:
                self.publish()
            elif self._file is not None:
                self._file.sync()

    def publish(self) -> None:
        """Publishes under its own name if anything changed since it last was."""
        with self.lock:
            if not self.dirty or self.unlinked:
                return
            try:
                self._published(self._send(self.key))
            except ZarrfuseError as error:
                self.visible = False
                self._reason = str(error)
                raise

    def publish_as(self, key: Key, copy: Copy | None) -> None:
        """rename(): published under its final name, which it has from now on. By `copy`, if given,
        where the bucket has the bytes already."""
        with self.lock:
            if copy is not None and self.is_as_published:
                meta = copy(self.key, key)
            else:
                meta = self._send(key)
            self.key, self.base, self.temporary = key, meta, None
            self.dirty, self.visible = False, True
            if self._file is not None:
                self._file.rename(key)
            self._note_time(meta)

    def publish_copy(self, key: Key) -> None:
        """link(): published under another name only if nothing has it; keeps its own."""
        with self.lock:
            self._rules.publish(key, self._spooled(keep=None), if_absent=True)

    def refuse(self, take: Callable[[SpoolFile], None]) -> None:
        """Its bytes are no use under this name: `take` keeps them, and nothing is published."""
        with self.lock:
            take(self._spooled(keep=None))
            self.dirty = False

    def move(self, key: Key, remove: Callable[[], None]) -> None:
        """rename() to a temporary name: all bytes are in the spool before the old name goes."""
        with self.lock:
            file = self._spooled(keep=None)
            remove()
            file.rename(key)
            self.key, self.base = key, None
            self.dirty, self.temporary = True, temporary_by_name(key.name)

    def close_spool(self) -> None:
        """No handle is left: keeps the bytes where they are still needed, else drops them."""
        with self.lock:
            file, self._file = self._file, None
            if file is None:
                return
            if self.dirty and not self.unlinked:
                file.park(self._reason or "not published when its last handle was closed")
            else:
                file.remove()

    def cut_off(self) -> None:
        """Unmounted while programs write it: half a file is never published, but kept."""
        with self.lock:
            self._reason = "unmounted while a program was writing it"
            self.close_spool()

    def _send(self, key: Key) -> ObjectMeta:
        return self._rules.publish(key, self._spooled(keep=None))

    def _published(self, meta: ObjectMeta) -> None:
        self.base = meta
        self.dirty = False
        self.visible = True
        self._note_time(meta)

    def _touch(self) -> None:
        self.dirty = True
        self.mtime_ns = time.time_ns()
        self.given_mtime_ns = None

    def _spooled(self, *, keep: int | None) -> SpoolFile:
        """The local file; made, and filled with the first `keep` bytes of what stands there."""
        if self._file is None:
            base = self.base
            etag = ETag(base.etag) if base is not None else None
            file = self._rules.spool.create(self.key, etag)
            try:
                if base is not None:
                    self._fill(file, base, base.size if keep is None else min(keep, base.size))
            except BaseException:
                file.remove()
                raise
            self._file = file
        return self._file

    def _fill(self, file: SpoolFile, base: ObjectMeta, stop: int) -> None:
        for start in range(0, stop, _FETCH_BYTES):
            data = self._rules.read_base(base, start, min(start + _FETCH_BYTES, stop))
            file.write(start, data)

    def _note_time(self, meta: ObjectMeta) -> None:
        """The time that a program gave to the file is that of the version it has become."""
        if self.given_mtime_ns is not None:
            self._times(meta, self.given_mtime_ns)
