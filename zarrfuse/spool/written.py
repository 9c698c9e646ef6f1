"""Files being written, from their creation to their publication: which bytes, and when they go.

Owns the rules of docs/SEMANTICS.md on close, fsync, release and temporary names. Knows the spool
and a `publish` callable; nothing of paths, kernels or what publication means (an object, or a
conversion).

Lock order: the registry's lock, then nothing; a file's lock, then the registry's. A file's lock is
held while its bytes are published, because a write would change them; size and names are read
without it, so that stat never waits for an upload.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from zarrfuse.core.attributes import Attributes
from zarrfuse.core.keys import ETag, Key, ObjectMeta, Prefix
from zarrfuse.core.temporary import Temporary, temporary_at_creation, temporary_by_name
from zarrfuse.errors import ZarrfuseError
from zarrfuse.spool.files import Spool, SpoolFile

log = structlog.get_logger(__name__)

#: A large object is fetched into the spool in pieces of this size.
_FETCH_BYTES = 16 * 1024**2


class Publish(Protocol):
    def __call__(self, key: Key, file: SpoolFile, *, if_absent: bool = False) -> ObjectMeta:
        """Makes the file's bytes `key`; must not keep the file after it returns."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What the registry is built from.

    `read_base` gives the bytes [start, stop) of a published version; `failed` is told of errors
    that no program can be given any more.
    """

    spool: Spool
    publish: Publish
    read_base: Callable[[ObjectMeta, int, int], bytes]
    failed: Callable[[Key, ZarrfuseError], None]
    settle_s: float


class WrittenFile:
    """One file that programs write: shared by all handles on its name."""

    def __init__(
        self,
        registry: WrittenFiles,
        key: Key,
        base: ObjectMeta | None,
        temporary: Temporary | None,
    ) -> None:
        self._registry = registry
        self._rules = registry.rules
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

    def publish_as(self, key: Key) -> None:
        """rename(): published under its final name, which it has from now on."""
        with self.lock:
            meta = self._send(key)
            self.moved(key, meta)
            self._registry.note_time(self, meta)

    def moved(self, key: Key, meta: ObjectMeta) -> None:
        """What stands in the bucket as `key` is this file, byte for byte."""
        with self.lock:
            self.key, self.base, self.temporary = key, meta, None
            self.dirty, self.visible = False, True
            if self._file is not None:
                self._file.rename(key)

    def publish_copy(self, key: Key) -> None:
        """link(): published under another name only if nothing has it; keeps its own."""
        with self.lock:
            self._rules.publish(key, self._spooled(keep=None), if_absent=True)

    def refuse(self, take: Callable[[SpoolFile], None]) -> None:
        """Its bytes are no use under this name: `take` keeps them, and nothing is published."""
        with self.lock:
            take(self._spooled(keep=None))
            self.dirty = False

    def move(self, key: Key) -> None:
        """rename() to another temporary name: nothing leaves the spool."""
        with self.lock:
            self.key = key
            self._spooled(keep=None).rename(key)
            self.temporary = temporary_by_name(key.name)

    def close_spool(self) -> None:
        """No handle is left: keeps the bytes where they are still needed, else drops them."""
        with self.lock:
            if self._file is None:
                return
            if self.dirty and not self.unlinked:
                self._file.park(self._reason or "not published when its last handle was closed")
            else:
                self._file.remove()
            self._file = None

    def _send(self, key: Key) -> ObjectMeta:
        return self._rules.publish(key, self._spooled(keep=None))

    def _published(self, meta: ObjectMeta) -> None:
        self.base = meta
        self.dirty = False
        self.visible = True
        self._registry.note_time(self, meta)

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
            except ZarrfuseError:
                file.remove()
                raise
            self._file = file
        return self._file

    def _fill(self, file: SpoolFile, base: ObjectMeta, stop: int) -> None:
        for start in range(0, stop, _FETCH_BYTES):
            data = self._rules.read_base(base, start, min(start + _FETCH_BYTES, stop))
            file.write(start, data)


class WriteHandle:
    """One open of a WrittenFile by one process (`opener`: its Tgid; 0 = unknown)."""

    def __init__(self, file: WrittenFile, registry: WrittenFiles, opener: int) -> None:
        self.file = file
        self._registry = registry
        self._opener = opener
        self._written = False

    @property
    def attributes(self) -> Attributes:
        return self.file.attributes

    def read(self, offset: int, size: int) -> bytes:
        return self.file.read(offset, size)

    def write(self, offset: int, data: bytes) -> int:
        count = self.file.write(offset, data)
        self._written = True
        return count

    def truncate(self, size: int) -> None:
        self.file.truncate(size)
        self._written = True

    def is_closing(self, caller: int) -> bool:
        """Whether a FLUSH by `caller` can be the close of a program that wrote through this handle.

        The others come in the middle: `cat > f` and `dd` flush before they write, a forked child
        flushes when it exits (facts: fuse k).
        """
        return self._written and (0 in (caller, self._opener) or caller == self._opener)

    def is_opener(self, caller: int) -> bool:
        return 0 in (caller, self._opener) or caller == self._opener

    def flush(self, caller: int) -> None:
        """A close by `caller`. Publishes, or raises what kept it from it."""
        if self.is_closing(caller) and self.file.temporary is None:
            self.file.publish()
            self._written = False

    def sync(self) -> None:
        self.file.sync()
        if self.file.temporary is None:
            self._written = False

    def release(self) -> None:
        """The last descriptor of this handle is gone. Never raises: nobody would hear it."""
        self._registry.release(self.file)


class WrittenFiles:
    """The files being written, by key; thread-safe.

    `times` receives the mtime that a program gave to what was published.
    """

    def __init__(self, rules: Rules, times: Callable[[ObjectMeta, int], None]) -> None:
        self.rules = rules
        self._times = times
        self._lock = threading.Lock()
        self._files: dict[Key, WrittenFile] = {}

    def find(self, key: Key) -> WrittenFile | None:
        """The file whose bytes a reader of this mount should see, if they are not the bucket's."""
        with self._lock:
            file = self._files.get(key)
        return file if file is not None and file.visible else None

    def children(self, prefix: Prefix) -> list[WrittenFile]:
        """Files in that very directory, temporary ones included."""
        with self._lock:
            return [f for k, f in self._files.items() if k.parent == prefix and f.visible]

    def below(self, prefix: Prefix) -> list[WrittenFile]:
        with self._lock:
            return [f for k, f in self._files.items() if k.startswith(prefix) and f.visible]

    def create(
        self, key: Key, base: ObjectMeta | None, *, opener: int, exclusive: bool, mode: int
    ) -> WriteHandle:
        """Opens a file that is to replace whatever has this name."""
        temporary = temporary_at_creation(key.name, exclusive=exclusive, mode=mode)
        file = self._hold(key, base, temporary)
        try:
            file.start_empty()
        except ZarrfuseError:
            self.release(file)
            raise
        return WriteHandle(file, self, opener)

    def open(self, key: Key, base: ObjectMeta | None, *, opener: int) -> WriteHandle:
        """Opens a file for changes; its bytes stay the bucket's until the first change."""
        return WriteHandle(self._hold(key, base, temporary_by_name(key.name)), self, opener)

    def rename(self, file: WrittenFile, target: Key) -> None:
        """Gives `file` another name: publishes it, unless that name is temporary as well."""
        self._cancel_settle(file)
        with file.lock:
            source = file.key
            if temporary_by_name(target.name) is Temporary.CERTAIN:
                file.move(target)
            else:
                file.publish_as(target)
            self._rekey(file, source)
        self._drop_if_done(file)

    def moved(self, file: WrittenFile, target: Key, meta: ObjectMeta) -> None:
        """The bucket has renamed what `file`, unchanged, was opened from."""
        source = file.key
        file.moved(target, meta)
        self._rekey(file, source)
        self._drop_if_done(file)

    def unlink(self, file: WrittenFile) -> None:
        """The name is gone; the bytes go with the last handle."""
        self._cancel_settle(file)
        with self._lock:
            self._files.pop(file.key, None)
        file.unlinked = True
        self._drop(file)

    def release(self, file: WrittenFile) -> None:
        """One handle less. The last one publishes what is left, and parks what cannot be."""
        with self._lock:
            file.handles -= 1
            last = file.handles == 0
        if not last:
            return
        with file.lock:
            if file.temporary is None or file.unlinked:
                self._finish(file)
            elif file.temporary is Temporary.LIKELY:
                self._start_settle(file)

    def drain(self) -> None:
        """Unmounting: likely temporary names are published, certain ones kept as parked."""
        with self._lock:
            files = list(self._files.values())
        for file in files:
            self._cancel_settle(file)
            with file.lock:
                if file.temporary is Temporary.LIKELY:
                    file.temporary = None
                self._finish(file)

    def note_time(self, file: WrittenFile, meta: ObjectMeta) -> None:
        if file.given_mtime_ns is not None:
            self._times(meta, file.given_mtime_ns)

    def snapshot(self) -> dict[str, int]:
        """Counts and bytes for the status report."""
        with self._lock:
            files = list(self._files.values())
        waiting = [f for f in files if f.temporary is not None and f.handles == 0]
        return {
            "open": sum(1 for f in files if f.handles > 0),
            "unpublished_bytes": sum(f.size for f in files if f.dirty),
            "temporary": len(waiting),
        }

    def _hold(self, key: Key, base: ObjectMeta | None, temporary: Temporary | None) -> WrittenFile:
        """The file of that name with one handle more; a failed one is left to its own handles."""
        with self._lock:
            file = self._files.get(key)
            if file is None or not file.visible:
                file = self._files[key] = WrittenFile(self, key, base, temporary)
            file.handles += 1
        self._cancel_settle(file)
        return file

    def _finish(self, file: WrittenFile) -> None:
        """Publishes, or parks; then forgets the file if nobody has it open."""
        try:
            if file.temporary is None and file.visible:
                file.publish()
        except ZarrfuseError as error:
            self.rules.failed(file.key, error)
        self._drop(file)

    def _rekey(self, file: WrittenFile, source: Key) -> None:
        """Registers `file` under its new name; what had that name loses it."""
        with self._lock:
            replaced = self._files.pop(file.key, None)
            if self._files.get(source) is file:
                del self._files[source]
            self._files[file.key] = file
            if replaced is not None and replaced is not file:
                replaced.unlinked = True  # its bytes go with its last handle

    def _drop_if_done(self, file: WrittenFile) -> None:
        with self._lock:
            done = file.handles == 0 and file.temporary is None
        if done:
            self._drop(file)

    def _drop(self, file: WrittenFile) -> None:
        with self._lock:
            if file.handles > 0:
                return
            if self._files.get(file.key) is file:
                del self._files[file.key]
        try:
            file.close_spool()
        except ZarrfuseError as error:
            self.rules.failed(file.key, error)

    def _start_settle(self, file: WrittenFile) -> None:
        timer = threading.Timer(self.rules.settle_s, self._settled, (file,))
        timer.daemon = True
        file.settle = timer
        timer.start()

    def _cancel_settle(self, file: WrittenFile) -> None:
        timer, file.settle = file.settle, None
        if timer is not None:
            timer.cancel()

    def _settled(self, file: WrittenFile) -> None:
        """Nobody renamed a likely temporary: it is a file like any other."""
        with file.lock:
            if file.settle is None or file.handles > 0:
                return
            file.temporary = None
            self._finish(file)
