"""Tells the kernel that a name is no longer what it was told, from one thread of its own.

The kernel keeps names and sizes for long; what the daemon learns or does behind its back is told
here, so that the next program that uses the name makes the kernel ask again. `changed` only puts
into a queue: it may be called anywhere, inside an operation and under any lock. The thread holds
no lock while it talks to the kernel, which waits for whoever changes that directory.

The message is written to a duplicate of the mount's own /dev/fuse, in the kernel's protocol, which
is the same under both libfuses; their functions for it want the session, and it is gone before
`destroy` is called. A directory's number is what stat shows of it: libfuse shows its own number.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from zarrfuse.core.keys import Key, Prefix

log = structlog.get_logger(__name__)

#: FUSE_ROOT_ID, FUSE_NOTIFY_INVAL_ENTRY and FUSE_EXPIRE_ONLY of <linux/fuse.h>. Kernels before 6.2
#: do not look at the flag and drop the name altogether, which costs a working directory its path.
_ROOT_NUMBER = 1
_INVALIDATE_ENTRY = 3
_EXPIRE_ONLY = 1
#: struct fuse_out_header and fuse_notify_inval_entry_out.
_MESSAGE = struct.Struct("=IiQ QII")
#: Names waiting to be told. What is more than that the kernel finds out when its time is over.
_MAX_WAITING = 100_000
_END_S = 2.0


class Notifier:
    """Thread-safe. `_lock` is alone and guards the queue. Tells nothing before `start` and after
    `close`."""

    def __init__(self, mountpoint: Path) -> None:
        self._mountpoint = mountpoint
        self._lock = threading.Condition()
        self._waiting: dict[Prefix, set[str]] = {}
        self._count = 0
        self._closed = False
        self._connection = 0
        self._thread: threading.Thread | None = None

    def changed(self, key: Key) -> None:
        """What the kernel was told of this path of the mount may not hold any more."""
        with self._lock:
            if self._closed or self._count >= _MAX_WAITING:
                return
            names = self._waiting.setdefault(key.parent, set())
            if key.name not in names:
                names.add(key.name)
                self._count += 1
                self._lock.notify()

    def start(self, device: int, may_be_known: Callable[[Key], bool]) -> None:
        """`device` is the mount's open /dev/fuse, which stays the caller's. Only of paths that
        `may_be_known` to it the kernel is told."""
        run = partial(self._run, os.dup(device), may_be_known)
        self._thread = threading.Thread(target=run, name="notify", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """After the unmount. Programs that still wait for the mount fail from now on."""
        with self._lock:
            self._closed = True
            self._lock.notify()
        if self._thread is None:
            return
        self._thread.join(_END_S)
        if self._thread.is_alive():
            self._abort()

    # Inside --------------------------------------------------------------------------------

    def _abort(self) -> None:
        """A message waits for a directory that a program has locked, whose question nobody will
        answer any more: without this neither would ever end."""
        connection = f"/sys/fs/fuse/connections/{self._connection}/abort"
        log.info("the kernel's connection is cut: a program still waits for the mount")
        try:
            Path(connection).write_text("1")
        except OSError as error:
            log.warning("it could not be cut", connection=connection, error=str(error))

    def _run(self, device: int, may_be_known: Callable[[Key], bool]) -> None:
        try:
            self._connection = os.minor(os.lstat(self._mountpoint).st_dev)
            while True:
                waiting = self._take()
                for parent, names in waiting.items():
                    known = [name for name in names if may_be_known(parent.file(name))]
                    if known:
                        self._tell(device, parent, known)
                if not waiting:
                    return
        finally:
            os.close(device)

    def _take(self) -> dict[Prefix, set[str]]:
        """All that waits, as soon as there is any; nothing when the mount has ended."""
        with self._lock:
            while not self._waiting and not self._closed:
                self._lock.wait()
            if self._closed:
                return {}
            waiting, self._waiting, self._count = self._waiting, {}, 0
            return waiting

    def _tell(self, device: int, parent: Prefix, names: list[str]) -> None:
        try:
            number = self._number(parent)
            for name in names:
                if self._closed:
                    return
                _expire(device, number, name)
        except FileNotFoundError:
            pass  # the kernel does not know the directory any more, or never did
        except OSError as error:
            if not self._closed:
                log.info("the kernel was not told of a change", directory=parent, error=str(error))

    def _number(self, directory: Prefix) -> int:
        """May become an operation of this very mount, answered by another thread."""
        if directory.is_root:
            return _ROOT_NUMBER
        return os.lstat(self._mountpoint / directory.as_key).st_ino


def _expire(device: int, directory: int, name: str) -> None:
    data = name.encode("utf-8", "surrogateescape")
    size = _MESSAGE.size + len(data) + 1
    head = _MESSAGE.pack(size, _INVALIDATE_ENTRY, 0, directory, len(data), _EXPIRE_ONLY)
    with suppress(FileNotFoundError):  # the kernel does not know the name
        os.write(device, head + data + b"\0")
