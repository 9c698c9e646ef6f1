"""The spool: a directory of files whose bytes are not in the bucket yet. Losing it loses data.

Owns the local files and their side files; knows no bucket and no handle. Each file `ID.data` has a
side file `ID.json` that names its key, the ETag that stood there, its state and its format version.
One daemon at a time uses a spool (flock).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from zarrfuse.core.keys import ETag, Key
from zarrfuse.errors import Busy, SpoolError, SpoolFull

FORMAT = 1
#: Free space is looked at again after so many written bytes.
_CHECK_BYTES = 8 * 1024**2


@dataclass(frozen=True, slots=True)
class Note:
    """The side file. `state` is "open" while a daemon works on it, else "parked"."""

    key: str
    base_etag: str | None
    state: str
    reason: str
    created_s: float
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Parked:
    """Bytes that wait for a person: what they were to become, why they are not, and where."""

    key: Key
    size: int
    reason: str
    path: Path


class SpoolFile:
    """One local file. Reads and writes at offsets, from any thread; the caller serialises them."""

    def __init__(
        self, spool: Spool, path: Path, note: Note, *, share: SpoolFile | None = None
    ) -> None:
        self._spool = spool
        self._note = note
        self.path = path
        self._unchecked = _CHECK_BYTES
        create = os.O_CREAT | os.O_EXCL
        with _disk_errors():
            if share is not None:
                os.link(share.path, path)
                create = 0
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | create, 0o600)
            self.size = os.fstat(self._fd).st_size
        self._write_note()

    @property
    def key(self) -> Key:
        return Key(self._note.key)

    def read(self, offset: int, size: int) -> bytes:
        with _disk_errors():
            return os.pread(self._fd, size, offset)

    def write(self, offset: int, data: bytes) -> int:
        """Takes all of `data`, or raises SpoolFull and may have taken a part."""
        self._reserve(len(data))
        view = memoryview(data)
        with _disk_errors():
            while view:
                done = os.pwrite(self._fd, view, offset)
                offset, view = offset + done, view[done:]
                self.size = max(self.size, offset)
        return len(data)

    def truncate(self, size: int) -> None:
        with _disk_errors():
            os.ftruncate(self._fd, size)
        self.size = size

    def sync(self) -> None:
        """The bytes survive a power loss."""
        with _disk_errors():
            os.fsync(self._fd)
            self._spool.sync_directory()

    def rename(self, key: Key) -> None:
        """They are to become another key."""
        self._note = replace(self._note, key=str(key))
        self._write_note()

    def fork(self) -> SpoolFile:
        """A second spool file of the same bytes, without copying them; each is removed alone.

        A later write to the first would change the second: `stamp` tells.
        """
        return SpoolFile(self._spool, self._spool.new_path(), self._note, share=self)

    def stamp(self) -> tuple[int, int]:
        """Changes with every write to the bytes: modification time in ns, and size."""
        with _disk_errors():
            now = os.fstat(self._fd)
        return now.st_mtime_ns, now.st_size

    def mark_parked(self, reason: str) -> None:
        """The bytes wait for a person from now on, also after a crash."""
        self._note = replace(self._note, state="parked", reason=reason)
        self.sync()
        self._write_note()
        self._spool.sync_directory()

    def park(self, reason: str) -> None:
        """Keeps the bytes for a person and lets go of the file."""
        self.mark_parked(reason)
        self._close()

    def remove(self) -> None:
        """The bytes are not wanted here any more."""
        self._close()
        with _disk_errors():
            self.path.unlink(missing_ok=True)
            self.path.with_suffix(".json").unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _reserve(self, count: int) -> None:
        self._unchecked += count
        if self._unchecked >= _CHECK_BYTES:
            self._unchecked = 0
            self._spool.check_room(count)

    def _write_note(self) -> None:
        _write_note(self.path.with_suffix(".json"), self._note)


class Spool:
    """One daemon's spool directory, 0700, held by a lock until `close`."""

    def __init__(self, directory: Path, *, keep_free_fraction: float, keep_free_bytes: int) -> None:
        self.directory = directory
        self._keep_free = (keep_free_fraction, keep_free_bytes)
        with _disk_errors():
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            directory.chmod(0o700)
            self._lock_fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock_fd)
            raise Busy(f"another zarrfuse uses the spool {directory}") from None
        self._park_leftovers()

    def create(self, key: Key, base: ETag | None) -> SpoolFile:
        """A new empty file for what is to become `key`, where the version `base` stands now."""
        note = Note(str(key), None if base is None else str(base), "open", "", time.time())
        return SpoolFile(self, self.new_path(), note)

    def new_path(self) -> Path:
        return self.directory / f"{uuid.uuid4().hex}.data"

    def parked(self) -> list[Parked]:
        """What waits for a person, the oldest first."""
        return parked_in(self.directory)

    def check_room(self, count: int) -> None:
        """SpoolFull if `count` more bytes would not leave what must stay free."""
        with _disk_errors():
            disk = os.statvfs(self.directory)
        fraction, least = self._keep_free
        floor = max(disk.f_blocks * disk.f_frsize * fraction, least)
        if disk.f_bavail * disk.f_frsize - count < floor:
            raise SpoolFull(f"the disk of {self.directory} has less than {floor:.0f} bytes left")

    def sync_directory(self) -> None:
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        os.close(self._lock_fd)

    def _park_leftovers(self) -> None:
        """What a daemon that died has left behind was never closed: it waits for a person."""
        for path, note in list(_notes(self.directory)):
            if note.state == "open":
                reason = "the daemon ended before this file was closed"
                _write_note(path, replace(note, state="parked", reason=reason))


def parked_in(directory: Path) -> list[Parked]:
    """What waits for a person in a spool, the oldest first; no lock is needed to look."""
    found = []
    for path, note in _notes(directory):
        data = path.with_suffix(".data")
        if note.state == "parked" and data.exists():
            size = data.stat().st_size
            found.append((note.created_s, Parked(Key(note.key), size, note.reason, data)))
    return [parked for _, parked in sorted(found, key=lambda pair: pair[0])]


def _notes(directory: Path) -> Iterator[tuple[Path, Note]]:
    for path in directory.glob("*.json"):
        # A file may be published and removed between the listing and the reading.
        with suppress(FileNotFoundError):
            yield path, Note(**json.loads(path.read_text()))


def _write_note(path: Path, note: Note) -> None:
    """Whole or not at all: through a temporary file."""
    new = path.with_suffix(".new")
    with _disk_errors():
        new.write_text(json.dumps(asdict(note), ensure_ascii=False))
        new.chmod(0o600)
        new.replace(path)


@contextmanager
def _disk_errors() -> Iterator[None]:
    """The local disk's errors as ours; "no space" is told apart."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpoolFull(f"spool: {error.strerror}") from error
        raise SpoolError(f"spool: {error}") from error
