"""What `zarrfuse warm` asks, says and exits with, against a daemon that says what it is told to."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from tests.unit.test_report_socket import status_of
from zarrfuse.cache.warming import Missed, WarmProgress, WarmRequest, WarmState
from zarrfuse.cli import warm as command
from zarrfuse.errors import ExitCode, UserError
from zarrfuse.report.socket import Server, runtime_directory, socket_path

MB = 10**6
HALF = WarmProgress(
    state=WarmState.FETCHING, objects=4, size_bytes=4 * MB, cached=1, cached_bytes=MB, fetched=1,
    fetched_bytes=MB,
)  # fmt: skip
DONE = HALF.model_copy(update={"state": WarmState.DONE, "fetched": 3, "fetched_bytes": 3 * MB})

Answers = Callable[..., list[WarmRequest]]


@pytest.fixture
def point() -> Iterator[Path]:
    """What passes for a mount point."""
    with tempfile.TemporaryDirectory(prefix="zf-") as path:
        (Path(path) / "a.zarr").mkdir()
        yield Path(path).resolve()


@pytest.fixture
def answering(point: Path) -> Iterator[Answers]:
    """Starts a daemon that answers with these lines; the requests that it got."""
    servers: list[Server] = []

    def start(*lines: BaseModel) -> list[WarmRequest]:
        asked: list[WarmRequest] = []

        def answer(body: object) -> Iterator[BaseModel]:
            asked.append(WarmRequest.model_validate(body))
            yield from lines

        path = socket_path(runtime_directory(os.environ), point)
        servers.append(Server(path, {"status": lambda _: [status_of(str(point))], "warm": answer}))
        return asked

    yield start
    for server in servers:
        server.close()


def run(*args: str | Path) -> int:
    code: int = command.warm.main([str(arg) for arg in args], standalone_mode=False)
    return code


def test_a_path_is_asked_for_as_the_daemon_knows_it(answering: Answers, point: Path) -> None:
    asked = answering(DONE)
    assert run(point / "a.zarr", "--limit", "50M") == run(point, "--dry-run") == ExitCode.OK
    assert asked == [
        WarmRequest(trees=("a.zarr",), bytes_per_s=50 * MB),
        WarmRequest(trees=("",), dry_run=True),
    ]


def test_a_link_leads_into_the_mount(answering: Answers, point: Path, tmp_path: Path) -> None:
    asked = answering(DONE)
    (tmp_path / "link").symlink_to(point / "a.zarr")
    run(tmp_path / "link")
    assert asked[0].trees == ("a.zarr",)


def test_where_nobody_sees_a_bar_there_are_lines(
    answering: Answers,
    point: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering(WarmProgress(state=WarmState.LISTING, objects=2), HALF, DONE)
    run(point)
    said = capsys.readouterr()
    assert said.err == "" and said.out.startswith(f"{point}: 4 objects, 4.0 MB; fetched: 3 objects")
    monkeypatch.setattr(command, "_LINE_EVERY_S", 0.0)
    run(point)
    said = capsys.readouterr()
    assert said.err == "listing: 2 objects\n2 of 4 objects, 2.0 MB of 4.0 MB\n"
    run(point, "--quiet")
    assert capsys.readouterr() == ("", "")


def test_what_is_missing_is_named_and_counted(
    answering: Answers, point: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missed = tuple(Missed(key=f"a.zarr/{n}", reason="gone") for n in range(2))
    lacking = DONE.model_copy(update={"fetched": 0, "failed": 3, "missed": missed})
    answering(lacking)
    with pytest.raises(UserError, match="3 of 4 objects") as caught:
        run(point, "--quiet")
    assert caught.value.exit_code == ExitCode.TRY_AGAIN
    assert capsys.readouterr().err == "a.zarr/0: gone\na.zarr/1: gone\nand 1 more\n"


def test_giving_up_is_told(answering: Answers, point: Path) -> None:
    answering(HALF.model_copy(update={"state": WarmState.GAVE_UP, "failed": 1}))
    with pytest.raises(UserError, match="1 were not tried") as caught:
        run(point)
    assert caught.value.exit_code == ExitCode.TRY_AGAIN


@pytest.mark.parametrize(
    ("line", "said"), [(HALF, "ended before"), (status_of("/mnt/x"), "another version")]
)
def test_an_answer_without_an_end_is_told(
    answering: Answers, point: Path, line: BaseModel, said: str
) -> None:
    answering(line)
    with pytest.raises(UserError, match=said) as caught:
        run(point)
    assert caught.value.exit_code == ExitCode.UNAVAILABLE


@pytest.mark.parametrize("rate", ["fast", "0", "-5M"])
def test_a_limit_is_a_rate(point: Path, rate: str) -> None:
    with pytest.raises(UserError, match="50M") as caught:
        run(point, "--limit", rate)
    assert caught.value.exit_code == ExitCode.USAGE


def test_the_mount_of_one_array_has_no_store_around_it(answering: Answers, point: Path) -> None:
    """Its parent directory is none of the daemon's."""
    asked = answering(DONE)
    document = {"zarr_format": 2, "shape": [4], "chunks": [2], "dtype": "<f4"}
    (point / ".zarray").write_text(json.dumps(document))
    with pytest.raises(UserError, match="mount of one array") as caught:
        run(point, "--isel", "x=0:2")
    assert caught.value.exit_code == ExitCode.USAGE
    assert asked == [] and run(point) == ExitCode.OK
