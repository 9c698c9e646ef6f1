"""The daemon's socket: who may ask, what is answered, and what happens where nobody listens."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
from pydantic import BaseModel

from zarrfuse.errors import ExitCode, Unavailable, UserError
from zarrfuse.report import socket as report_socket
from zarrfuse.report.errors_seen import ErrorsSeen
from zarrfuse.report.socket import (
    Server,
    ask,
    ask_all,
    converse,
    daemon_behind,
    runtime_directory,
    socket_path,
)
from zarrfuse.report.status import LastError, Status


def status_of(mountpoint: str, errors: list[LastError] | None = None) -> Status:
    return Status(
        pid=os.getpid(),
        version="1",
        mountpoint=mountpoint,
        source="s3://b",
        read_only=False,
        binding="x",
        started="2026-01-01T00:00:00+00:00",
        requests={"get": {"requests": 1, "errors": 0, "bytes": 5}},
        cache={},
        listing={},
        spool={},
        spool_directory="/s",
        parked=[],
        conversions=[],
        errors=errors or [],
    )


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="zf-") as path:
        yield runtime_directory({"XDG_RUNTIME_DIR": path})


def test_the_directory_and_the_socket_are_the_users_alone(directory: Path) -> None:
    path = socket_path(directory, Path("/mnt/x"))
    server = Server(path, {"status": lambda _: [status_of("/mnt/x")]})
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    server.close()


def test_a_directory_that_others_can_enter_is_refused(directory: Path) -> None:
    directory.chmod(0o755)
    with pytest.raises(UserError) as caught:
        runtime_directory({"XDG_RUNTIME_DIR": str(directory.parent)})
    assert caught.value.exit_code == ExitCode.CONFIG


def test_a_link_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "zarrfuse").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError):
        runtime_directory({"XDG_RUNTIME_DIR": str(tmp_path)})


def test_who_asks_is_answered_every_time(directory: Path) -> None:
    path = socket_path(directory, Path("/mnt/x"))
    server = Server(path, {"status": lambda _: [status_of("/mnt/x")]})
    try:
        for _ in range(3):
            assert ask(path) == status_of("/mnt/x")
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(path))  # and goes away
        assert ask(path) == status_of("/mnt/x")
    finally:
        server.close()
    assert ask(path) is None and not path.exists()


def test_a_status_that_cannot_be_told_ends_no_server(directory: Path) -> None:
    answers = iter([ZeroDivisionError("a defect"), status_of("/mnt/x")])

    def status() -> Status:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    path = socket_path(directory, Path("/mnt/x"))
    server = Server(path, {"status": lambda _: [status()]})
    try:
        assert ask(path) is None
        assert ask(path) == status_of("/mnt/x")
    finally:
        server.close()


def test_a_dead_daemons_socket_is_taken_over(directory: Path) -> None:
    path = socket_path(directory, Path("/mnt/x"))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert ask(path) is None
    server = Server(path, {"status": lambda _: [status_of("/mnt/x")]})
    try:
        assert ask(path) is not None
    finally:
        server.close()


def test_all_that_answer_are_found_by_mount_point(directory: Path) -> None:
    points = ["/mnt/b", "/mnt/a"]
    servers = [
        Server(socket_path(directory, Path(p)), {"status": lambda _, p=p: [status_of(p)]})  # type: ignore[misc]
        for p in points
    ]
    socket_path(directory, Path("/mnt/dead")).touch()
    try:
        assert [s.mountpoint for s in ask_all(directory)] == ["/mnt/a", "/mnt/b"]
    finally:
        for server in servers:
            server.close()


def test_a_later_versions_status_is_still_understood(directory: Path) -> None:
    document = status_of("/mnt/x").model_dump() | {"more": 1}
    assert Status.model_validate(document) == status_of("/mnt/x")


def test_the_newest_errors_are_kept() -> None:
    seen = ErrorsSeen()
    for n in range(50):
        seen.note("publishing", ValueError(str(n)))
    assert [error.error for error in seen.all()][-1] == "49"
    assert len(seen.all()) == 20


class Count(BaseModel):
    number: int


class Counting:
    """Answers with numbers, for ever or up to what the question says."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def count(self, body: object) -> Generator[Count, None, None]:
        most = Count.model_validate(body).number if body is not None else None
        number = 0
        try:
            while number != most:
                yield Count(number=number)
                number += 1
        finally:
            self.ended.set()


@pytest.fixture
def counting(directory: Path) -> Iterator[tuple[Path, Counting, Server]]:
    counting = Counting()
    path = socket_path(directory, Path("/mnt/x"))
    answers = {"status": lambda _: [status_of("/mnt/x")], "count": counting.count}
    server = Server(path, answers)
    yield path, counting, server
    server.close()


Talk = tuple[Path, Counting, Server]


def test_an_answer_is_a_line_for_each_step(counting: Talk) -> None:
    path, _, _ = counting
    lines = [json.loads(line) for line in converse(path, "count", Count(number=3))]
    assert lines == [{"number": 0}, {"number": 1}, {"number": 2}]


def test_the_status_is_told_while_a_long_answer_goes_on(counting: Talk) -> None:
    path, _, _ = counting
    with closing(converse(path, "count")) as lines:
        next(lines)
        assert ask(path) == status_of("/mnt/x")
        assert daemon_behind(path) == os.getpid()


def test_who_hangs_up_ends_the_work(counting: Talk) -> None:
    path, work, _ = counting
    with closing(converse(path, "count")) as lines:
        assert next(lines)
        assert not work.ended.is_set()
    assert work.ended.wait(30)


def test_closing_the_server_ends_the_work_and_the_answer(counting: Talk) -> None:
    path, work, server = counting
    lines = converse(path, "count")
    next(lines)
    server.close()
    assert work.ended.is_set()
    for _ in lines:
        pass
    assert not path.exists()


def test_what_a_daemon_refuses_is_told_with_its_exit_code(directory: Path) -> None:
    def refuse(body: object) -> Iterator[Count]:
        yield Count(number=0)
        raise UserError("not today", ExitCode.CONFIG)

    def fail(body: object) -> Iterator[Count]:
        raise Unavailable("the bucket is gone")
        yield

    def break_down(body: object) -> Iterator[Count]:
        raise ZeroDivisionError("a defect")
        yield

    path = socket_path(directory, Path("/mnt/x"))
    server = Server(path, {"refuse": refuse, "fail": fail, "break": break_down})
    try:
        lines = converse(path, "refuse")
        assert next(lines)
        for asked, code, said in (
            ("fail", ExitCode.UNAVAILABLE, "gone"),
            ("break", ExitCode.SOFTWARE, "log"),
            ("dance", ExitCode.UNAVAILABLE, "mount again"),
        ):
            with pytest.raises(UserError, match=said) as caught:
                next(converse(path, asked))
            assert caught.value.exit_code == code
        with pytest.raises(UserError, match="not today") as caught:
            next(lines)
        assert caught.value.exit_code == ExitCode.CONFIG
    finally:
        server.close()


@pytest.mark.parametrize(
    "question", [b'{"zarrfuse": 2, "ask": "status"}', b"what?", b'{"zarrfuse": 1}', b"[]"]
)
def test_another_language_is_refused(counting: Talk, question: bytes) -> None:
    path, _, _ = counting
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        client.sendall(question + b"\n")
        answer = json.loads(client.recv(65536))
    assert answer["exit_code"] == ExitCode.UNAVAILABLE and "mount again" in answer["refused"]


def test_another_user_is_not_answered(counting: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _, _ = counting
    monkeypatch.setattr(report_socket, "_peer", lambda connection: (1, os.getuid() + 1))
    assert ask(path) is None


def test_nobody_there_is_an_error_of_the_socket(directory: Path) -> None:
    with pytest.raises(OSError):
        next(converse(socket_path(directory, Path("/mnt/x")), "count"))


def test_a_connection_that_cannot_be_taken_ends_nothing(
    counting: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the daemon has no descriptor left."""
    path, _, _ = counting
    accept, failures = socket.socket.accept, iter(range(3))

    def failing(listener: socket.socket) -> tuple[socket.socket, object]:
        if next(failures, None) is not None:
            raise OSError(errno.EMFILE, "too many open files")
        return accept(listener)

    monkeypatch.setattr(report_socket, "_PAUSE_S", 0.01)
    monkeypatch.setattr(socket.socket, "accept", failing)
    for _ in range(3):  # the first is taken by a call that was under way
        assert ask(path) == status_of("/mnt/x")
    assert next(failures, None) is None


def test_a_thread_that_cannot_be_had_ends_nothing(
    counting: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _, _ = counting
    start, failures = threading.Thread.start, iter(range(2))

    def failing(thread: threading.Thread) -> None:
        if thread.name == "answer" and next(failures, None) is not None:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(report_socket, "_PAUSE_S", 0.01)
    monkeypatch.setattr(threading.Thread, "start", failing)
    assert [ask(path) is None for _ in range(3)] == [True, True, False]


def test_a_daemon_whose_queue_is_full_is_a_busy_one(directory: Path) -> None:
    path = socket_path(directory, Path("/mnt/x"))
    with full_queue(path) as listener:
        with pytest.raises(TimeoutError):
            daemon_behind(path, 0.1)
        listener.accept()[0].close()
        assert daemon_behind(path) == os.getpid()
    assert daemon_behind(path) is None


@contextmanager
def full_queue(path: Path) -> Iterator[socket.socket]:
    """What listens on a socket, and takes nobody."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        with suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(path))
        yield listener
