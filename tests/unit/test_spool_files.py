"""The spool's files: what survives, what a damaged side file may do, who may use a spool."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from zarrfuse.core.keys import ETag, Key
from zarrfuse.errors import Busy, SpoolError, SpoolFull
from zarrfuse.spool import files
from zarrfuse.spool.files import UNKNOWN_KEY, Spool, parked_in

KEY = Key("a/b.nc")


def open_spool(directory: Path, *, keep_free_bytes: int = 0) -> Spool:
    return Spool(directory, keep_free_fraction=0.0, keep_free_bytes=keep_free_bytes)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return open_spool(tmp_path / "spool")


def names(spool: Spool) -> set[str]:
    return {path.name for path in spool.directory.iterdir()} - {"lock"}


def test_what_is_written_is_read_at_any_offset(spool: Spool) -> None:
    file = spool.create(KEY, None)
    assert file.write(0, b"hello world") == 11
    file.write(6, b"there")
    file.truncate(8)
    assert (file.read(0, 100), file.size) == (b"hello th", 8)
    file.remove()
    assert names(spool) == set()


def test_nobody_else_can_read_a_spool(spool: Spool) -> None:
    spool.create(KEY, None).write(0, b"x")
    assert stat.S_IMODE(spool.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in spool.directory.iterdir()} == {0o600}


def test_a_spool_has_one_user_at_a_time(spool: Spool) -> None:
    with pytest.raises(Busy):
        open_spool(spool.directory)
    spool.close()
    open_spool(spool.directory).close()


def test_parked_bytes_say_what_they_are(spool: Spool) -> None:
    file = spool.create(KEY, ETag("v1"))
    file.write(0, b"precious")
    file.park("the bucket is full")
    (parked,) = spool.parked()
    assert (parked.key, parked.size, parked.reason) == (KEY, 8, "the bucket is full")
    assert parked.path.read_bytes() == b"precious"


def test_what_a_dead_daemon_left_is_parked_at_the_next_start(spool: Spool) -> None:
    spool.create(KEY, None).write(0, b"half")
    assert spool.parked() == []
    spool.close()
    (parked,) = open_spool(spool.directory).parked()
    assert parked.key == KEY and "before this file was closed" in parked.reason


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\xff\xfe",
        b"[1, 2]",
        b"null",
        b'{"key": "x"}',
        b'{"key": 5, "base_etag": null, "state": "parked", "reason": "", "created_s": 0.0}',
        json.dumps({"key": "x", "format": 2, "more": "than we know"}).encode(),
        b'{"key": "x", "base_etag": null, "state": "open", "reason": "", "created_s": 0,'
        b' "format": 99}',
    ],
)
def test_a_damaged_note_stops_no_start_and_hides_no_bytes(tmp_path: Path, note: bytes) -> None:
    directory = tmp_path / "spool"
    directory.mkdir()
    (directory / "dead.json").write_bytes(note)
    (directory / "dead.data").write_bytes(b"precious")
    (parked,) = open_spool(directory).parked()
    assert (parked.key, parked.size) == (UNKNOWN_KEY, 8)
    assert "dead.json" in parked.reason
    assert (directory / "dead.json").read_bytes() == note, "not ours to overwrite"


def test_bytes_without_a_note_are_kept_and_shown(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    directory.mkdir()
    (directory / "orphan.data").write_bytes(b"precious")
    (directory / "empty.data").touch()
    (directory / "x.new").write_bytes(b'{"half')
    spool = open_spool(directory)
    assert [p.path.name for p in spool.parked()] == ["orphan.data"]
    assert names(spool) == {"orphan.data", "orphan.json"}


def test_a_note_without_bytes_is_not_shown(spool: Spool) -> None:
    file = spool.create(KEY, None)
    file.mark_parked("why")
    file.path.unlink()
    assert parked_in(spool.directory) == []


def test_a_fork_has_the_bytes_and_a_life_of_its_own(spool: Spool) -> None:
    first = spool.create(KEY, None)
    first.write(0, b"same")
    second = first.fork()
    before = second.stamp()
    first.write(0, b"other")
    assert second.stamp() != before
    first.remove()
    assert second.read(0, 10) == b"other"
    second.remove()
    assert names(spool) == set()


def test_room_for_others_is_left_on_the_disk(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool", keep_free_bytes=1 << 60)
    file = spool.create(KEY, None)
    with pytest.raises(SpoolFull):
        file.write(0, b"x")


def test_a_full_disk_is_told_apart_and_leaves_no_scraps(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = len(os.listdir("/proc/self/fd"))

    def full(*_: Any) -> None:
        raise SpoolFull("no room for the note")

    monkeypatch.setattr(files, "_write_note", full)
    with pytest.raises(SpoolFull):
        spool.create(KEY, None)
    assert names(spool) == set()
    assert len(os.listdir("/proc/self/fd")) == opened


def test_a_disk_error_is_a_spool_error(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    file = spool.create(KEY, None)

    def fails(*_: Any) -> int:
        raise OSError(errno.EIO, "disk on fire")

    monkeypatch.setattr(os, "pwrite", fails)
    with pytest.raises(SpoolError) as caught:
        file.write(0, b"x")
    assert not isinstance(caught.value, SpoolFull)


def test_a_removed_file_gives_no_other_files_bytes(spool: Spool) -> None:
    """A descriptor's number is given out again at once."""
    file = spool.create(KEY, None)
    file.write(0, b"mine")
    file.remove()
    other = spool.create(Key("other"), None)
    other.write(0, b"not yours")
    with pytest.raises(SpoolError):
        file.read(0, 10)


def test_removal_while_reading_gives_no_other_files_bytes(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = spool.create(KEY, None)
    file.write(0, b"mine")
    true_pread = os.pread

    def removed_first(fd: int, size: int, offset: int) -> bytes:
        file.remove()
        spool.create(Key("other"), None).write(0, b"not yours")  # takes the same number
        return true_pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", removed_first)
    with pytest.raises(SpoolError):
        file.read(0, 10)


def test_a_file_can_be_removed_twice_without_closing_anothers(spool: Spool) -> None:
    file = spool.create(KEY, None)
    file.remove()
    other = spool.create(Key("other"), None)
    file.remove()
    other.write(0, b"still open")
    assert other.read(0, 20) == b"still open"


def test_a_key_of_any_text_survives(spool: Spool) -> None:
    key = Key("ä/" + "é" + '"\\\n' + "🌊")
    spool.create(key, None).park("why")
    assert [p.key for p in spool.parked()] == [key]
