"""The operations that libfuse calls, in terms of a Tree: numbers, modes and handles, no decisions.

One class for both bindings; the binding wraps every call in `guard`. Called from libfuse's own
threads, many at a time. Operations that are not here (xattrs, locks, symlinks) libfuse answers
with ENOSYS by itself, and the kernel stops asking.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zarrfuse.core.attributes import Attributes
from zarrfuse.core.keys import Key, path_key
from zarrfuse.errors import (
    BadHandle,
    NameRefused,
    NotOffered,
    NotPermitted,
    VersionChanged,
    ZarrfuseError,
)
from zarrfuse.mount.page_cache import PageCache
from zarrfuse.mount.stat import BLOCK_BYTES, PART_BYTES, Stat
from zarrfuse.tree.base import Handle, Opening, Tree

#: df shows a bucket as this large and this empty; its true limit is not known without a request.
_SHOWN_BYTES = 1024**5
_FRAGMENT_BYTES = 4096
#: utimensat(2): in the place of nanoseconds, with zero seconds, as libfuse 3 passes them on. A true
#: time has less than 10**9 nanoseconds in a second, so that it is none of these before 1.07 s.
_UTIME_NOW = (1 << 30) - 1
_UTIME_OMIT = (1 << 30) - 2


_TO_READ = Opening(read_only=True)


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whom files are shown to belong to, and the modes they are shown with."""

    uid: int
    gid: int
    umask: int
    shared: bool
    read_only: bool

    def mode(self, shown: Attributes) -> int:
        if shown.is_directory:
            kind, bits = stat.S_IFDIR, 0o777
        else:
            kind, bits = stat.S_IFREG, 0o666
        if self.read_only or shown.read_only:
            bits &= ~0o222
        return kind | (bits & ~self.umask)

    def admits(self, uid: int) -> bool:
        """Whether that user can enter the directories, whatever groups there are."""
        return uid in (0, self.uid) or not self.umask & 0o001


@dataclass(frozen=True, slots=True)
class Told:
    """Whom an Operations tells of its life, and of names that are not what the kernel knows."""

    ready: Callable[[], None]
    destroyed: Callable[[], None]
    changed: Callable[[Key], None]


@dataclass(slots=True)
class _Open:
    handle: Handle
    path: str
    version: str
    writes: bool


class Operations:
    """`caller` gives the thread id of the program that asks; `kept_s` is how long the kernel
    believes what it was told. `told.ready` is called once, from init."""

    use_ns = True

    def __init__(
        self,
        tree: Tree,
        owner: Ownership,
        *,
        caller: Callable[[], int],
        kept_s: float,
        told: Told,
    ) -> None:
        self._tree = tree
        self._owner = owner
        self._caller = caller
        self._told = told
        self._pages = PageCache(kept_s)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._handles: dict[int, _Open] = {}
        self._listings: dict[int, list[tuple[str, Attributes]]] = {}

    # Life ----------------------------------------------------------------------------------

    def init(self, path: str) -> None:
        self._told.ready()

    def destroy(self, path: str) -> None:
        self._told.destroyed()

    def may_be_known(self, key: Key) -> bool:
        """Whether the kernel may still believe what it was told of that path."""
        return self._pages.may_be_known(f"/{key}")

    # Attributes ----------------------------------------------------------------------------

    def getattr(self, path: str | None, info: Any = None) -> Stat:
        opened = None if info is None else self._handles.get(info.fh)
        if opened is not None:
            return self._tell(opened.path, opened.handle.attributes)
        if path is None:
            raise BadHandle("neither a path nor a handle")
        return self._tell(path, self._tree.attributes(path))

    def statfs(self, path: str) -> dict[str, int]:
        blocks = _SHOWN_BYTES // _FRAGMENT_BYTES
        return {
            "f_bsize": BLOCK_BYTES,
            "f_frsize": _FRAGMENT_BYTES,
            "f_blocks": blocks,
            "f_bfree": blocks,
            "f_bavail": blocks,
            "f_files": 2**31,
            "f_ffree": 2**31,
            "f_favail": 2**31,
            "f_namemax": 255,
        }

    def chmod(self, path: str, mode: int) -> None:
        """Accepted and forgotten, unless somebody would count on it being stricter."""
        shown = self._owner.mode(self._tree.attributes(path))
        if self._owner.shared and shown & ~mode & 0o077:
            raise NotPermitted("the mount's --umask gives all modes; it cannot be made stricter")

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Accepted and forgotten."""
        self._tree.attributes(path)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        """`times` as the bindings give them: libfuse's UTIME_NOW and UTIME_OMIT are added in."""
        mtime_ns = _UTIME_NOW if times is None else times[1]
        if mtime_ns == _UTIME_NOW:
            mtime_ns = time.time_ns()
        if mtime_ns != _UTIME_OMIT:
            self._tree.set_time(path, mtime_ns)

    # Files ---------------------------------------------------------------------------------

    def open(self, path: str, info: Any) -> int:
        how = self._opening(info.flags, mode=0)
        handle = self._tree.open(path, how)
        shown = handle.attributes
        if not how.truncate and self._pages.told_otherwise(path, shown.size, shown.version):
            # The kernel would cut the file at the size it knows. ESTALE makes it look again.
            self._pages.forget(path)
            handle.release()
            raise VersionChanged(f"{path} has changed")
        self._register(handle, path, how, info)
        return 0

    def create(self, path: str, mode: int, info: Any) -> None:
        how = self._opening(info.flags, mode=mode)
        self._register(self._tree.create(path, how), path, how, info)

    def read(self, path: str, size: int, offset: int, info: Any) -> bytes:
        return self._opened(info).handle.read(offset, size)

    def write(self, path: str | None, data: bytes, offset: int, info: Any) -> int:
        opened = self._opened(info)
        self._pages.changed(opened.path)
        return opened.handle.write(offset, data)

    def truncate(self, path: str, length: int, info: Any = None) -> None:
        if info is not None and info.fh in self._handles:
            self._opened(info).handle.truncate(length)
        else:
            self._tree.truncate(path, length)

    def flush(self, path: str | None, info: Any) -> int:
        opened = self._opened(info)
        if opened.writes:
            with self._doubting(opened.path):
                opened.handle.flush(process_of(self._caller()))
        return 0

    def fsync(self, path: str | None, datasync: int, info: Any) -> None:
        opened = self._opened(info)
        with self._doubting(opened.path):
            opened.handle.sync()

    def release(self, path: str | None, info: Any) -> None:
        opened = self._opened(info)
        with self._lock:
            del self._handles[info.fh]
        try:
            opened.handle.release()
        finally:
            self._pages.closed(opened.path, opened.version)

    # Directories ---------------------------------------------------------------------------

    def opendir(self, path: str) -> int:
        """Numbers the directory's handle; its entries are read by the first readdir."""
        return next(self._numbers)

    def releasedir(self, path: str | None, number: int) -> None:
        with self._lock:
            self._listings.pop(number, None)

    def fsyncdir(self, path: str | None, datasync: int, number: int) -> None:
        """Every change of a directory is in the bucket when it returns."""

    def readdir(self, path: str, number: int) -> Iterator[str]:
        """Names only. The bindings register the operation by this name, and then call `entry_types`
        or `entry_stats` instead."""
        return (name for name, _ in self.entry_types(path, number))

    def entry_types(self, path: str, number: int) -> Iterator[tuple[str, int]]:
        """Name and type of each entry."""
        yield ".", stat.S_IFDIR
        yield "..", stat.S_IFDIR
        for name, shown in self._entries(path, number, again=True):
            yield name, self._owner.mode(shown)

    def entry_stats(
        self, path: str, number: int, offset: int, *, told: bool = True
    ) -> Iterator[tuple[str, Stat]]:
        """Name and stat of the entries from `offset` on; the same listing for all offsets.

        `told`: whether the kernel takes the stats (readdirplus), or the names only. An entry is
        taken when the next one is asked for.
        """
        # libfuse numbers the other entries itself; readdir(3) drops what has no number.
        here = self._stat(Attributes(is_directory=True, size=0, mtime_ns=0))._replace(number=1)
        yield from [(".", here), ("..", here)][offset:]
        listed = self._entries(path, number, again=offset == 0)
        parent = path.rstrip("/")
        for name, shown in itertools.islice(listed, max(0, offset - 2), None):
            yield name, self._stat(shown)
            if told:  # whoever has no room for an entry does not ask for the next
                self._pages.tell(f"{parent}/{name}", shown.size, shown.version)

    def mkdir(self, path: str, mode: int) -> None:
        self._tree.mkdir(path)

    def rmdir(self, path: str) -> None:
        self._tree.rmdir(path)
        self._pages.forget_pages()
        self._told.changed(path_key(path))

    def unlink(self, path: str) -> None:
        self._tree.unlink(path)
        self._pages.forget(path)

    def rename(self, old: str, new: str, refused_flags: int = 0) -> None:
        if refused_flags:
            raise NameRefused("exchanging two names is not offered")
        is_directory = self._tree.attributes(old).is_directory
        self._tree.rename(old, new)
        self._pages.forget(old)
        self._pages.forget(new)
        if is_directory:
            self._pages.forget_pages()
            self._told.changed(path_key(old))

    def link(self, new: str, existing: str) -> None:
        self._tree.link(existing, new)
        self._pages.forget(new)

    def symlink(self, target: str, source: str) -> None:
        raise NotOffered("symbolic links: a bucket has none")

    def mknod(self, path: str, mode: int, dev: int) -> None:
        raise NotOffered("devices, pipes and sockets: a bucket has none")

    # Inside --------------------------------------------------------------------------------

    def _opening(self, flags: int, *, mode: int) -> Opening:
        if not flags & (os.O_ACCMODE | os.O_TRUNC | os.O_EXCL | os.O_CREAT):
            return _TO_READ  # who reads need not be known, and to find out is half the work
        return Opening(
            read_only=flags & os.O_ACCMODE == os.O_RDONLY,
            truncate=bool(flags & os.O_TRUNC),
            exclusive=bool(flags & os.O_EXCL),
            opener=process_of(self._caller()),
            mode=mode,
        )

    def _register(self, handle: Handle, path: str, how: Opening, info: Any) -> None:
        version = handle.attributes.version
        caching = self._pages.opened(path, version)
        info.keep_cache, info.direct_io = int(caching.keep), int(caching.direct)
        number = next(self._numbers)
        with self._lock:
            self._handles[number] = _Open(handle, path, version, writes=how is not _TO_READ)
        # Where libfuse can pass it on, the kernel sends no FLUSH for what was only read.
        info.noflush = int(how is _TO_READ)
        info.fh = number

    @contextmanager
    def _doubting(self, path: str) -> Iterator[None]:
        """A close that fails shows the bucket's version again, or none: not what was written."""
        try:
            yield
        except ZarrfuseError:
            self._told.changed(path_key(path))
            raise

    def _opened(self, info: Any) -> _Open:
        try:
            return self._handles[info.fh]
        except KeyError:
            raise BadHandle(str(info.fh)) from None

    def _entries(self, path: str, number: int, *, again: bool) -> list[tuple[str, Attributes]]:
        with self._lock:
            listed = None if again else self._listings.get(number)
        if listed is None:
            listed = list(self._tree.entries(path))
            with self._lock:
                self._listings[number] = listed
        return listed

    def _tell(self, path: str, shown: Attributes) -> Stat:
        """The stat of a path; what the kernel is told of its size is remembered."""
        self._pages.tell(path, shown.size, shown.version)
        return self._stat(shown)

    def _stat(self, shown: Attributes) -> Stat:
        owner = self._owner
        links = 2 if shown.is_directory else 1
        return Stat(
            owner.mode(shown),
            shown.size,
            shown.mtime_ns,
            owner.uid,
            owner.gid,
            links,
            block_bytes=PART_BYTES if shown.in_parts else BLOCK_BYTES,
        )


class ImmutableOperations(Operations):
    """Of a bucket that does not change: the kernel is told that opening needs nobody, and opens,
    reads again and closes without asking. Reads name no handle, and each is of the version that
    stands there by then."""

    def open(self, path: str, info: Any) -> int:
        return -errno.ENOSYS

    def flush(self, path: str | None, info: Any) -> int:
        return -errno.ENOSYS

    def read(self, path: str, size: int, offset: int, info: Any) -> bytes:
        return self._tree.open(path, _TO_READ).read(offset, size)

    def _tell(self, path: str, shown: Attributes) -> Stat:
        return self._stat(shown)


def process_of(thread: int) -> int:
    """The process (Tgid) a thread belongs to; 0 if unknown: gone, or of another pid namespace."""
    if thread <= 0:
        return 0
    try:
        status = Path(f"/proc/{thread}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("Tgid:"):
            return int(line.split()[1])
    return 0
