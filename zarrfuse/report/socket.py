"""The socket on which a daemon hands out its status, and how others find and ask it.

A unix socket, 0600 in a directory 0700, named after the mount point. Whoever connects is sent one
JSON document. Knows the status model and nothing of where its numbers come from.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog
from pydantic import ValidationError

from zarrfuse.errors import ExitCode, UserError
from zarrfuse.report.status import Status

log = structlog.get_logger(__name__)

_ANSWER_DEADLINE_S = 5.0


def runtime_directory(environ: Mapping[str, str]) -> Path:
    """Where this user's sockets are; made 0700 if missing. UserError if it is not ours alone."""
    uid = os.getuid()
    if "XDG_RUNTIME_DIR" in environ:
        directory = Path(environ["XDG_RUNTIME_DIR"]) / "zarrfuse"
    elif uid == 0:
        directory = Path("/run/zarrfuse")
    else:
        directory = Path(f"/tmp/zarrfuse-{uid}")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise UserError(f"{directory}: {error.strerror}", ExitCode.CONFIG) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
        raise UserError(
            f"{directory} must be a directory of yours with mode 0700; remove it", ExitCode.CONFIG
        )
    return directory


def socket_path(directory: Path, mountpoint: Path) -> Path:
    """Short, because a socket's path has at most 107 bytes."""
    digest = hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16]
    return directory / f"{digest}.sock"


class StatusServer:
    """Answers each connection with `status()` from a thread of its own, until `close`."""

    def __init__(self, path: Path, status: Callable[[], Status]) -> None:
        self._path = path
        self._status = status
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            self._socket.bind(str(path))
        except OSError as error:
            raise UserError(
                f"cannot make the status socket {path}: {error}; is XDG_RUNTIME_DIR too long?",
                ExitCode.CONFIG,
            ) from None
        finally:
            os.umask(old)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, name="status", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):  # shutdown of a listening socket answers ENOTCONN, and wakes accept
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(_ANSWER_DEADLINE_S)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            with connection:
                connection.settimeout(_ANSWER_DEADLINE_S)
                try:
                    connection.sendall(self._status().model_dump_json().encode())
                except OSError as error:
                    log.info("a status client went away", error=str(error))
                except Exception:
                    log.exception("status could not be told")


def ask(path: Path) -> Status | None:
    """The status of the daemon behind a socket, or None where none answers."""
    try:
        with _connected(path) as client:
            document = b"".join(iter(lambda: client.recv(65536), b""))
        return Status.model_validate_json(document)
    except (OSError, ValidationError):
        return None


def daemon_behind(path: Path) -> int | None:
    """The process that listens on a socket, as the kernel knows it; None where none does.

    Also of a daemon that is too busy to tell its status.
    """
    try:
        with _connected(path) as client:
            size = struct.calcsize("3i")
            pid, _, _ = struct.unpack(
                "3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            )
    except OSError:
        return None
    return int(pid)


def ask_all(directory: Path) -> list[Status]:
    """Every daemon of this user that answers, by mount point."""
    found = [ask(path) for path in sorted(directory.glob("*.sock"))]
    return sorted((s for s in found if s is not None), key=lambda s: s.mountpoint)


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_ANSWER_DEADLINE_S)
        client.connect(str(path))
        yield client
