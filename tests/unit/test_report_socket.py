"""The status socket: who may ask, what is answered, and what happens where nobody listens."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from zarrfuse.errors import ExitCode, UserError
from zarrfuse.report.errors_seen import ErrorsSeen
from zarrfuse.report.socket import StatusServer, ask, ask_all, runtime_directory, socket_path
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
    server = StatusServer(path, lambda: status_of("/mnt/x"))
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
    server = StatusServer(path, lambda: status_of("/mnt/x"))
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
    server = StatusServer(path, status)
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
    server = StatusServer(path, lambda: status_of("/mnt/x"))
    try:
        assert ask(path) is not None
    finally:
        server.close()


def test_all_that_answer_are_found_by_mount_point(directory: Path) -> None:
    points = ["/mnt/b", "/mnt/a"]
    servers = [
        StatusServer(socket_path(directory, Path(p)), lambda p=p: status_of(p))  # type: ignore[misc]
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
