"""The socket on which a daemon is asked, and how others find it and ask.

A unix socket, 0600 in a directory 0700, named after the mount point; who asks must be the
daemon's own user, or root. A question is one line of JSON, `{"zarrfuse": 1, "ask": NAME, "body":
...}`; the answer is a line of JSON or many, or `{"refused": WHY, "exit_code": N}`. It ends with the
connection, and who hangs up stops the work that goes on for the answer. Knows the status model, and
nothing of where answers come from.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from zarrfuse import __version__
from zarrfuse.errors import ExitCode, UserError, ZarrfuseError, user_error_of
from zarrfuse.report.status import Status

log = structlog.get_logger(__name__)

_ANSWER_DEADLINE_S = 5.0
#: A question that names every array of a store of 20 000 arrays has about 5 MB.
_MAX_QUESTION_BYTES = 16 << 20
_PIECE_BYTES = 65536
#: After a failure to take a connection (no descriptor is left, or no thread) the next try waits.
_PAUSE_S = 0.5
#: So often a busy daemon is tried again, whose queue of connections (128) is full.
_KNOCK_EVERY_S = 0.05

#: The lines that answer a question, from its body. An iterator is closed when nobody listens.
Answer = Callable[[object], Iterable[BaseModel]]


class _Question(BaseModel):
    model_config = ConfigDict(extra="ignore")

    zarrfuse: Literal[1]
    ask: str
    body: object = None


class Refused(BaseModel):
    """Instead of an answer, or in its middle: what a person is told, and the exit code."""

    refused: str
    exit_code: ExitCode


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


class Server:
    """Answers questions by name, each from a thread of its own, until `close`.

    `_lock` guards the table of who is being answered, and is a leaf.
    """

    def __init__(self, path: Path, answers: Mapping[str, Answer]) -> None:
        self._path = path
        self._answers = answers
        self._lock = threading.Lock()
        self._asking: dict[socket.socket, threading.Thread] = {}
        self._closing = threading.Event()
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
        """Hangs up on everybody; work that goes on for an answer is told so by that."""
        self._closing.set()
        _hang_up(self._socket)  # wakes accept
        self._thread.join(_ANSWER_DEADLINE_S)
        with self._lock:
            asking = dict(self._asking)
        for connection in asking:
            _hang_up(connection)
        for thread in asking.values():
            thread.join(_ANSWER_DEADLINE_S)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                self._take_one()
            except (OSError, RuntimeError) as error:
                if not self._closing.is_set():
                    log.warning("a question could not be taken", error=str(error))
                self._closing.wait(_PAUSE_S)

    def _take_one(self) -> None:
        """OSError without a descriptor to take it with, RuntimeError without a thread."""
        connection, _ = self._socket.accept()
        thread = threading.Thread(
            target=self._attend, args=(connection,), name="answer", daemon=True
        )
        with self._lock:
            self._asking[connection] = thread
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                del self._asking[connection]
            connection.close()
            raise

    def _attend(self, connection: socket.socket) -> None:
        try:
            self._answer(connection)
        except OSError as error:
            log.info("who asked went away", error=str(error))
        finally:
            with self._lock:
                del self._asking[connection]
            connection.close()

    def _answer(self, connection: socket.socket) -> None:
        _, uid = _peer(connection)
        if uid not in (os.getuid(), 0):
            log.warning("another user asked, and was not answered", uid=uid)
            return
        connection.settimeout(_ANSWER_DEADLINE_S)
        text = next(_lines(connection, at_most=_MAX_QUESTION_BYTES), None)
        if text is None:
            return  # it only wanted to know whether we live
        # From here on a client that was stopped (Ctrl-Z) makes its own answer wait, and no more.
        connection.settimeout(None)
        with closing(self._lines(text)) as lines:
            for line in lines:
                connection.sendall(line.model_dump_json().encode() + b"\n")

    def _lines(self, text: bytes) -> Generator[BaseModel, None, None]:
        """The answer; what goes wrong is its last line."""
        try:
            question = _Question.model_validate_json(text)
            if question.ask in self._answers:
                yield from self._answers[question.ask](question.body)
            else:
                yield _not_understood(question.ask)
        except ValidationError as error:
            yield _not_understood(str(error.errors()[0]["msg"]))
        except ZarrfuseError as error:
            told = user_error_of(error, "the daemon")
            yield Refused(refused=str(told), exit_code=told.exit_code)
        except Exception:
            log.exception("a question could not be answered")
            said = "the daemon failed; its log says why"
            yield Refused(refused=said, exit_code=ExitCode.SOFTWARE)


def converse(path: Path, ask: str, body: BaseModel | None = None) -> Generator[bytes, None, None]:
    """The lines of an answer, as they come; ends early where the daemon does.

    OSError where nobody answers, UserError where the daemon refuses. Closing the iterator hangs up.
    """
    question = _Question(zarrfuse=1, ask=ask, body=None if body is None else body.model_dump())
    with _connected(path) as client:
        client.sendall(question.model_dump_json().encode() + b"\n")
        client.settimeout(None)
        for line in _lines(client):
            refused = _refused(line)
            if refused is not None:
                raise UserError(refused.refused, refused.exit_code)
            yield line


def ask(path: Path) -> Status | None:
    """The status of the daemon behind a socket, or None where none answers."""
    try:
        with _connected(path) as client:
            client.sendall(_Question(zarrfuse=1, ask="status").model_dump_json().encode() + b"\n")
            line = next(_lines(client), b"")
        return Status.model_validate_json(line)
    except (OSError, ValidationError):
        return None


def daemon_behind(path: Path, within_s: float = _ANSWER_DEADLINE_S) -> int | None:
    """The process that listens on a socket, as the kernel knows it; None where none does.

    Also of a daemon that is too busy to tell its status; TimeoutError of one that is too busy to be
    connected to within that time.
    """
    try:
        with _connected(path, within_s) as client:
            return _peer(client)[0]
    except TimeoutError:
        raise
    except OSError:
        return None


def ask_all(directory: Path) -> list[Status]:
    """Every daemon of this user that answers, by mount point."""
    found = [ask(path) for path in sorted(directory.glob("*.sock"))]
    return sorted((s for s in found if s is not None), key=lambda s: s.mountpoint)


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as they were when it was connected."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return int(pid), int(uid)


def _lines(connection: socket.socket, *, at_most: int | None = None) -> Iterator[bytes]:
    """Whole lines until the other end hangs up. OSError for one longer than `at_most`."""
    rest = b""
    while piece := connection.recv(_PIECE_BYTES):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
        if at_most is not None and len(rest) > at_most:
            raise OSError(errno.EMSGSIZE, "the line is too long")


def _refused(line: bytes) -> Refused | None:
    try:
        return Refused.model_validate_json(line)
    except ValidationError:
        return None


def _not_understood(what: str) -> Refused:
    text = f"the daemon (zarrfuse {__version__}) does not understand this command ({what}); unmount"
    return Refused(refused=f"{text}, and mount again", exit_code=ExitCode.UNAVAILABLE)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # ENOTCONN: nobody is there, or it is closed already
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def _connected(path: Path, within_s: float = _ANSWER_DEADLINE_S) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_ANSWER_DEADLINE_S)
        _connect(client, path, time.monotonic() + within_s)
        yield client


def _connect(client: socket.socket, path: Path, deadline: float) -> None:
    """TimeoutError where the queue of connections stays full; a unix socket does not wait for it,
    unless it waits for ever."""
    while True:
        try:
            client.connect(str(path))
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "the daemon is busy") from None
            time.sleep(_KNOCK_EVERY_S)
        else:
            return
