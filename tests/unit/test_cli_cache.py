"""`zarrfuse cache`: what a person, a script and a shell see of it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cache_fakes import block_id
from zarrfuse.cache.blocks import BlockCache
from zarrfuse.cache.limits import Limits
from zarrfuse.errors import ExitCode

SIZE = 20_000
DATA = bytes(range(250)) * 80
WITHIN_S = 60


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zarrfuse", "cache", *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=WITHIN_S,
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A cache with three blocks."""
    cache = BlockCache(tmp_path / "cache", Limits(10**9, 0))
    for number in range(3):
        assert cache.put(block_id(number, SIZE), DATA)
    cache.close()
    return tmp_path / "cache"


def files(directory: Path) -> list[Path]:
    return [path for path in directory.glob("v1/?/?/*") if path.is_file()]


def test_info_as_json(directory: Path) -> None:
    done = run("info", "--cache-dir", directory, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert (document["directory"], document["exists"]) == (str(directory), True)
    assert (document["format"], document["blocks"], document["bytes"]) == ("v1", 3, 3 * 20480)
    assert 0 < document["default_limit_bytes"] < document["disk_bytes"]
    assert 0 < document["keep_free_bytes"] < document["disk_bytes"]
    assert document["oldest_use"] <= document["newest_use"]


def test_info_for_people(directory: Path) -> None:
    shown = run("info", XDG_CACHE_HOME=str(directory.parent), COLUMNS="200").stdout
    assert "there is no cache in" in shown
    directory.rename(directory.parent / "zarrfuse")
    shown = run("info", XDG_CACHE_HOME=str(directory.parent), COLUMNS="200").stdout
    for word in ("3, 60.0 KiB", "v1", "left free", "last used", str(directory.parent)):
        assert word in shown


def test_info_without_a_cache_makes_none(tmp_path: Path) -> None:
    absent = tmp_path / "not" / "there"
    done = run("info", "--cache-dir", absent)
    assert (done.returncode, done.stdout) == (0, f"there is no cache in {absent}\n")
    document = json.loads(run("info", "--cache-dir", absent, "--json").stdout)
    assert (document["exists"], document["blocks"], document["oldest_use"]) == (False, 0, None)
    for command in (("clear", "--yes"), ("verify",)):
        assert run(*command, "--cache-dir", absent).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_clear_says_what_was_freed(directory: Path) -> None:
    done = run("clear", "--yes", "--cache-dir", directory)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"3 blocks removed, 60.0 KiB freed in {directory}\n"
    assert files(directory) == []


def test_clear_without_a_terminal_asks_for_yes(directory: Path) -> None:
    done = run("clear", "--cache-dir", directory)
    assert done.returncode == ExitCode.USAGE
    assert "--yes" in done.stderr
    assert len(files(directory)) == 3


@pytest.mark.parametrize(("answer", "left"), [("n", 3), ("", 3), ("y", 0)])
def test_clear_asks_on_a_terminal(directory: Path, answer: str, left: int) -> None:
    ours, its = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "-m", "zarrfuse", "cache", "clear", "--cache-dir", str(directory)],
            stdin=its,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
        )
    finally:
        os.close(ours)
        os.close(its)
    assert done.returncode == 0
    assert "Remove 3 blocks (60.0 KiB)" in done.stdout
    assert len(files(directory)) == left


@pytest.mark.parametrize("command", [("clear", "--yes"), ("verify",)])
def test_what_is_no_cache_is_refused_in_one_line(tmp_path: Path, command: tuple[str]) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    done = run(*command, "--cache-dir", tmp_path)
    assert done.returncode == ExitCode.CONFIG
    assert done.stderr.count("\n") == 1
    assert "is no cache of zarrfuse" in done.stderr
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_verify_says_what_it_mended(directory: Path) -> None:
    broken = files(directory)[0]
    broken.write_bytes(broken.read_bytes()[:-1] + b"?")
    done = run("verify", "--cache-dir", directory)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 blocks are good" in done.stdout
    assert done.stdout.endswith("1 were damaged\n")
    assert not broken.exists()
    again = run("verify", "--cache-dir", directory)
    assert again.stdout == "2 blocks are good, 40.0 KiB\n0 were damaged\n"


def test_help_names_the_three() -> None:
    shown = run("--help").stdout
    assert all(word in shown for word in ("info", "clear", "verify"))
