"""Files being written, from their creation to their publication: which bytes, and when they go.

Owns the rules of docs/SEMANTICS.md on close, fsync, release and temporary names. Knows the spool
and a `publish` callable; nothing of paths, kernels or what publication means (an object, or a
conversion).

Lock order: the registry's lock, then nothing; a file's lock, then the registry's; never two files'
locks. A file's lock is held while its bytes are published, moved or removed, because a write would
change them; size and names are read without it, so that stat never waits for an upload.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from zarrfuse.core.attributes import Attributes
from zarrfuse.core.keys import Key, ObjectMeta, Prefix
from zarrfuse.core.temporary import Temporary, temporary_at_creation, temporary_by_name
from zarrfuse.errors import ZarrfuseError
from zarrfuse.spool.written_file import Copy, Rules, WrittenFile

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OldName:
    """What becomes of the published object under a file's old name: `copy` gives it the new one
    if nothing was written since (None: it is published again); `remove` is called last."""

    copy: Copy | None
    remove: Callable[[Key], None]


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
        flushes when it exits (facts: fuse k). What is empty is published by its release.
        """
        return self._written and self.file.size > 0 and self.is_opener(caller)

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


def _nothing() -> None:
    """No object stands under the name."""


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

    def rename(self, file: WrittenFile, target: Key, old: OldName) -> None:
        """Gives `file` another name: published under it, unless that name is temporary as well."""
        self._cancel_settle(file)
        hidden = temporary_by_name(target.name) is Temporary.CERTAIN
        replaced = None
        try:
            with file.lock:
                source = file.key
                remove = partial(old.remove, source) if file.base is not None else _nothing
                if hidden and file.is_as_published:
                    self.unlink(file, remove)  # nobody will look for it under that name
                elif hidden:
                    file.move(target, remove)
                    replaced = self._rekey(file, source)
                else:
                    file.publish_as(target, old.copy)
                    replaced = self._rekey(file, source)
                    remove()
        except ZarrfuseError:
            self._settle_again(file)
            raise
        finally:
            self._drop_replaced(replaced)
        self._drop_if_done(file)

    def unlink(self, file: WrittenFile, remove: Callable[[], None]) -> None:
        """The name goes, and the bytes with the last handle. `remove` is called first if an object
        stands there; where it fails, nothing has changed. Waits for a publication under way."""
        self._cancel_settle(file)
        try:
            with file.lock:
                if file.base is not None:
                    remove()
                file.unlinked = True
                with self._lock:
                    if self._files.get(file.key) is file:
                        del self._files[file.key]
        except ZarrfuseError:
            self._settle_again(file)
            raise
        self._drop(file)

    def release(self, file: WrittenFile) -> None:
        """One handle less. The last one publishes what is left, and parks what cannot be."""
        with self._lock:
            file.handles -= 1
            last = file.handles == 0
        if not last:
            return
        with file.lock:
            if file.handles > 0:  # opened again while we waited: its writer is not done
                return
            if file.temporary is None or file.unlinked:
                self._finish(file)
            else:
                self._settle_again(file)

    def drain(self) -> None:
        """Unmounting: likely temporary names are published, certain ones kept as parked, and so is
        what a program still writes (a signal ends the mount under its open files)."""
        with self._lock:
            files = list(self._files.values())
        for file in files:
            self._cancel_settle(file)
            with file.lock:
                if file.handles > 0:
                    self._cut_off(file)
                    continue
                if file.temporary is Temporary.LIKELY and self.rules.settle_s is not None:
                    file.temporary = None
                self._finish(file)

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
                file = self._files[key] = WrittenFile(self.rules, self._times, key, base, temporary)
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
        finally:
            self._drop(file)

    def _cut_off(self, file: WrittenFile) -> None:
        with self._lock:
            self._files.pop(file.key, None)
        try:
            file.cut_off()
        except ZarrfuseError as error:
            self.rules.failed(file.key, error)

    def _rekey(self, file: WrittenFile, source: Key) -> WrittenFile | None:
        """Registers `file` under its new name; what had that name loses it, and is answered."""
        with self._lock:
            replaced = self._files.pop(file.key, None)
            if self._files.get(source) is file:
                del self._files[source]
            self._files[file.key] = file
            if replaced is None or replaced is file:
                return None
            replaced.unlinked = True  # its bytes go with its last handle
            return replaced

    def _drop_replaced(self, replaced: WrittenFile | None) -> None:
        """Not under the lock of the file that has taken its name: that would be two files'."""
        if replaced is not None:
            self._cancel_settle(replaced)
            self._drop(replaced)

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

    def _settle_again(self, file: WrittenFile) -> None:
        """Nobody has a temporary file open: a likely one is published if it stays so."""
        if (
            self.rules.settle_s is None
            or file.handles > 0
            or file.unlinked
            or file.temporary is not Temporary.LIKELY
        ):
            return
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
