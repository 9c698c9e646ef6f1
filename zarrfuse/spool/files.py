"""The spool: a directory of files whose bytes are not in the bucket yet. Losing it loses data.

Owns the local files and their side files; knows no bucket and no handle. Each file `ID.data` has a
side file `ID.json` that names its key, the ETag that stood there, its state and its format version.
One daemon at a time uses a spool (flock). Bytes whose side file is lost or damaged are parked.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog

from zarrfuse.core.keys import ETag, Key
from zarrfuse.errors import Busy, SpoolError, SpoolFull

log = structlog.get_logger(__name__)

FORMAT = 1
#: The key shown for bytes whose side file cannot be read: a "?" that no tool takes for a path.
UNKNOWN_KEY = "?"
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
        self._closing = threading.Lock()  # alone; so that a descriptor is closed once
        self._fd = -1
        create = os.O_CREAT | os.O_EXCL
        try:
            with _disk_errors():
                if share is not None:
                    os.link(share.path, path)
                    create = 0
                self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | create, 0o600)
                self.size = os.fstat(self._fd).st_size
            self._write_note()
        except SpoolError:
            self._close()
            _unlink(path)
            raise

    @property
    def key(self) -> Key:
        return Key(self._note.key)

    def read(self, offset: int, size: int) -> bytes:
        """SpoolError once the file was removed, also while this reads."""
        fd = self._fd
        with _disk_errors():
            data = os.pread(fd, size, offset)
        if self._fd != fd:  # closed meanwhile: the number may have been another file's by then
            raise SpoolError(f"spool: {self.path.name} was removed while it was read")
        return data

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
        """The bytes, and what they are to become, survive a power loss."""
        with _disk_errors():
            os.fsync(self._fd)
            _sync_path(self._note_path)
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
        self._write_note()
        self.sync()

    def park(self, reason: str) -> None:
        """Keeps the bytes for a person and lets go of the file."""
        try:
            self.mark_parked(reason)
        finally:  # a note that could not be written says "open": the next start parks it
            self._close()

    def remove(self) -> None:
        """The bytes are not wanted here any more."""
        self._close()
        with _disk_errors():
            _unlink(self.path)

    def _close(self) -> None:
        with self._closing:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _reserve(self, count: int) -> None:
        self._unchecked += count
        if self._unchecked >= _CHECK_BYTES:
            self._unchecked = 0
            self._spool.check_room(count)

    @property
    def _note_path(self) -> Path:
        return self.path.with_suffix(".json")

    def _write_note(self) -> None:
        _write_note(self._note_path, self._note)


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
        self.park_leftovers()

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
        with _disk_errors():
            _sync_path(self.directory)

    def close(self) -> None:
        os.close(self._lock_fd)

    def park_leftovers(self) -> None:
        """What is still "open" while no daemon works on it was never closed, or never published:
        it waits for a person. For the start, and for the end of a drain."""
        _drop_scraps(self.directory)
        for path, note in list(_notes(self.directory)):
            if note.state == "open":
                reason = "the daemon ended before this file was closed"
                _write_note(path, replace(note, state="parked", reason=reason))


def parked_in(directory: Path) -> list[Parked]:
    """What waits for a person in a spool, the oldest first; no lock is needed to look."""
    found = []
    for path, note in _notes(directory):
        data = path.with_suffix(".data")
        if note.state != "parked":
            continue
        # A file may be published and removed between the listing and the looking.
        with suppress(FileNotFoundError):
            size = data.stat().st_size
            found.append((note.created_s, Parked(Key(note.key), size, note.reason, data)))
    return [parked for _, parked in sorted(found, key=lambda pair: pair[0])]


def _notes(directory: Path) -> Iterator[tuple[Path, Note]]:
    """The side file of each file, read or, where it cannot be, made up."""
    for path in directory.glob("*.json"):
        with suppress(FileNotFoundError):
            yield path, _read_note(path)


def _read_note(path: Path) -> Note:
    """A damaged note, or one of another format, hides no bytes and stops no start."""
    try:
        found = json.loads(path.read_text())
        note = Note(**found)
        if note.format == FORMAT and isinstance(note.key, str) and isinstance(note.reason, str):
            return replace(note, created_s=float(note.created_s))
        problem = f"it has the format {note.format}"
    except (ValueError, TypeError) as error:
        problem = str(error)
    reason = f"its side file {path.name} cannot be read: {problem}"
    return Note(UNKNOWN_KEY, None, "parked", reason, path.stat().st_mtime)


def _drop_scraps(directory: Path) -> None:
    """After a crash at the making of a file: bytes without a note get one, empty ones go."""
    with _disk_errors():
        for path in directory.glob("*.new"):
            path.unlink()
        for path in directory.glob("*.data"):
            note = path.with_suffix(".json")
            found = path.stat()
            if note.exists():
                continue
            if found.st_size == 0:
                path.unlink()
                continue
            log.warning("bytes in the spool without a side file", path=str(path))
            reason = "its side file is missing"
            _write_note(note, Note(UNKNOWN_KEY, None, "parked", reason, found.st_mtime))


def _unlink(data: Path) -> None:
    """The note last: without its bytes it says nothing, the bytes without it not whose they are."""
    data.unlink(missing_ok=True)
    data.with_suffix(".json").unlink(missing_ok=True)


def _sync_path(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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
