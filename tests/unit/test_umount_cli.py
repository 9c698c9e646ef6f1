"""What `zarrfuse umount` waits for, where the daemon is too busy to be asked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from tests.unit.test_report_socket import full_queue
from zarrfuse.cli import umount as command
from zarrfuse.errors import ExitCode, UserError
from zarrfuse.report.socket import runtime_directory, socket_path


@pytest.fixture
def point(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What passes for a mount point; taking it away does nothing."""
    monkeypatch.setattr(command, "_NOTE_EVERY_S", 0.05)
    monkeypatch.setattr(command, "unmount", lambda mountpoint, lazy: None)
    monkeypatch.setattr(command, "ask", lambda path: None)
    with tempfile.TemporaryDirectory(prefix="zf-") as path:
        monkeypatch.setenv("XDG_RUNTIME_DIR", path)
        yield Path(path).resolve() / "mnt"


def run(*args: str | Path) -> int:
    code: int = command.umount.main([str(arg) for arg in args], standalone_mode=False)
    return code


def test_without_a_daemon_there_is_nothing_to_wait_for(point: Path) -> None:
    assert run(point) == ExitCode.OK


def test_a_busy_daemon_is_waited_for(point: Path) -> None:
    with (
        full_queue(socket_path(runtime_directory(os.environ), point)),
        pytest.raises(UserError, match="still publishes") as caught,
    ):
        run(point, "--wait", "0.2")
    assert caught.value.exit_code == ExitCode.TRY_AGAIN


def test_a_busy_daemon_that_ends_is_not_waited_for_any_longer(
    point: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def once_noted(say: Callable[..., None], text: str) -> None:
        say(text)
        path.unlink(missing_ok=True)

    path, echo = socket_path(runtime_directory(os.environ), point), click.echo
    monkeypatch.setattr(click, "echo", lambda text, err: once_noted(echo, text))
    with full_queue(path):
        assert run(point) == ExitCode.OK
    assert "waiting for the last uploads" in capsys.readouterr().out
