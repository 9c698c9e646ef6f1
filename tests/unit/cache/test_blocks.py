"""The disk tier: damage, limits, crashes and company."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.cache_fakes import SECOND_NS, DrainedCache, block_id
from tests.support.cache_writer import fill
from zarrfuse.cache.format import disk_bytes, header_bytes
from zarrfuse.cache.limits import DiskSpace, Limits, Usage

SIZE = 20_000
DATA = bytes(range(250)) * 80
EACH = disk_bytes(block_id(1, SIZE))


class Clock:
    def __init__(self) -> None:
        self.now = 10**18

    def __call__(self) -> int:
        self.now += 1
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Build = Callable[..., DrainedCache]


@pytest.fixture
def build(tmp_path: Path, clock: Clock) -> Iterator[Build]:
    with ExitStack() as made:

        def make(room: int = 15 * EACH, keep_free: int = 0, **more: object) -> DrainedCache:
            cache = DrainedCache(tmp_path, Limits(room, keep_free), clock_ns=clock, **more)  # type: ignore[arg-type]
            made.callback(cache.close)
            return cache

        yield make


def block_files(directory: Path) -> list[Path]:
    return [path for path in directory.glob("v1/*/*/*") if path.is_file()]


def size_of(path: Path) -> int:
    """0 for a temporary file that was given up meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def kept(cache: DrainedCache, numbers: range) -> list[int]:
    return [n for n in numbers if cache.get(block_id(n, SIZE)) is not None]


def test_survives_a_restart(build: Build) -> None:
    build().put(block_id(1, SIZE), DATA)
    again = build()
    assert again.get(block_id(1, SIZE)) == DATA
    assert (again.snapshot()["disk_blocks"], again.snapshot()["disk_bytes"]) == (1, EACH)


def test_everything_is_private(build: Build, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        build().put(block_id(1, SIZE), DATA)
    finally:
        os.umask(old)
    for path in [tmp_path / "v1", *tmp_path.glob("v1/**/*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


HEADER = header_bytes(block_id(1, SIZE))


@pytest.mark.parametrize(
    "at", [0, 8, 12, 16, 24, 39, 40, 60, HEADER - 1, HEADER, HEADER + SIZE // 2, -1]
)
def test_one_flipped_bit_is_a_miss(build: Build, tmp_path: Path, at: int) -> None:
    cache = build()
    cache.put(block_id(1, SIZE), DATA)
    (path,) = block_files(tmp_path)
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    _is_removed_and_can_come_back(cache, path)


@pytest.mark.parametrize("length", [0, 10, HEADER, HEADER + SIZE - 1, HEADER + SIZE + 1])
def test_another_length_is_a_miss(build: Build, tmp_path: Path, length: int) -> None:
    cache = build()
    cache.put(block_id(1, SIZE), DATA)
    (path,) = block_files(tmp_path)
    os.truncate(path, length)
    _is_removed_and_can_come_back(cache, path)


def test_a_misplaced_block_is_a_miss(build: Build, tmp_path: Path) -> None:
    cache = build()
    cache.put(block_id(1, SIZE), DATA)
    (path,) = block_files(tmp_path)
    cache.put(block_id(2, SIZE), DATA)
    (other,) = set(block_files(tmp_path)) - {path}
    path.write_bytes(other.read_bytes())
    _is_removed_and_can_come_back(cache, path)


def test_a_directory_in_a_blocks_place_is_a_miss(build: Build, tmp_path: Path) -> None:
    cache = build()
    cache.put(block_id(1, SIZE), DATA)
    (path,) = block_files(tmp_path)
    path.unlink()
    path.mkdir()
    with capture_logs() as logs:
        assert cache.get(block_id(1, SIZE)) is None
    assert [line["event"] for line in logs] == ["cache.damaged", "cache.damaged_stays"]


def _is_removed_and_can_come_back(cache: DrainedCache, path: Path) -> None:
    with capture_logs() as logs:
        assert cache.get(block_id(1, SIZE)) is None
        assert cache.get(block_id(1, SIZE)) is None
    assert [line["event"] for line in logs] == ["cache.damaged"]
    assert cache.snapshot()["damaged"] == 1
    assert not path.exists()
    assert cache.put(block_id(1, SIZE), DATA)
    assert cache.get(block_id(1, SIZE)) == DATA


def test_running_out_of_descriptors_removes_nothing(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = build()
    cache.put(block_id(1, SIZE), DATA)

    def exhausted(*_: object) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("zarrfuse.cache.files.os.open", exhausted)
        assert cache.get(block_id(1, SIZE)) is None
    assert cache.get(block_id(1, SIZE)) == DATA


def test_uses_of_a_memory_tier_count(build: Build) -> None:
    cache = build(room=3 * EACH)
    for number in range(3):
        cache.put(block_id(number, SIZE), DATA)
    cache.touch(block_id(0, SIZE))
    cache.put(block_id(3, SIZE), DATA)
    assert kept(cache, range(4)) == [0, 2, 3]


def test_uses_reach_other_daemons_after_a_while(build: Build, clock: Clock) -> None:
    ours, other = build(room=3 * EACH), build(room=3 * EACH)
    for number in range(3):
        ours.put(block_id(number, SIZE), DATA)
    clock.now += 6 * SECOND_NS
    ours.get(block_id(0, SIZE))
    deadline = time.monotonic() + 30
    while ours._touches:  # they are written by a thread
        assert time.monotonic() < deadline
        time.sleep(0.01)
    other.put(block_id(3, SIZE), DATA)
    assert kept(other, range(4)) == [0, 2, 3]


def test_room_is_taken_before_the_fetch(build: Build) -> None:
    cache = build(room=2 * EACH)
    rooms = [cache.reserve(block_id(number, SIZE)) for number in range(3)]
    assert [room is None for room in rooms] == [False, False, True]
    assert rooms[0] is not None
    rooms[0].cancel()
    assert cache.reserve(block_id(3, SIZE)) is not None


def test_a_block_that_two_fetched_is_stored_once(build: Build, tmp_path: Path) -> None:
    caches = build(), build()
    rooms = [cache.reserve(block_id(1, SIZE)) for cache in caches]
    for cache, room in zip(caches, rooms, strict=True):
        assert room is not None
        room.store(DATA)
        cache.drain()
        assert cache.get(block_id(1, SIZE)) == DATA
    usage = caches[0].usage()
    assert usage == Usage(blocks=1, total_bytes=EACH, reserved_bytes=0)
    assert len(block_files(tmp_path)) == 1


def test_room_is_booked_ahead_and_given_back_at_the_end(build: Build) -> None:
    ours, other = build(room=64 * EACH), build(room=64 * EACH)
    assert ours.put(block_id(1, SIZE), DATA)
    assert other.usage() == Usage(blocks=1, total_bytes=4 * EACH, reserved_bytes=3 * EACH)
    with ours._index.transaction():  # nobody asks the index for these
        rooms = [ours.reserve(block_id(number, SIZE)) for number in range(2, 5)]
    assert None not in rooms
    ours.close()
    assert other.usage() == Usage(blocks=1, total_bytes=EACH, reserved_bytes=0)


def test_a_stale_booking_gives_way_and_a_late_block_finds_other_room(
    build: Build, clock: Clock, tmp_path: Path
) -> None:
    ours, other = build(room=3 * EACH), build(room=3 * EACH)
    late = ours.reserve(block_id(1, SIZE))
    assert late is not None
    assert all(other.put(block_id(number, SIZE), DATA) for number in (2, 3))
    assert other.reserve(block_id(4, SIZE)) is not None  # by evicting
    clock.now += 301 * SECOND_NS
    assert other.put(block_id(4, SIZE), DATA)
    assert late.store(DATA)
    ours.drain()
    assert ours.get(block_id(1, SIZE)) == DATA
    usage = ours.usage()
    assert usage is not None
    assert usage.total_bytes <= 3 * EACH
    assert usage.blocks == len(block_files(tmp_path))


def test_has_finds_what_get_would(build: Build, tmp_path: Path) -> None:
    cache = build()
    room = cache.reserve(block_id(1, SIZE))
    assert not cache.has(block_id(1, SIZE))
    assert room is not None
    with cache._index.transaction():
        room.store(DATA)
        assert cache.has(block_id(1, SIZE))  # queued
        assert cache.get(block_id(1, SIZE)) == DATA
    cache.drain()
    assert cache.has(block_id(1, SIZE))
    block_files(tmp_path)[0].unlink()
    assert not cache.has(block_id(1, SIZE))


def test_close_writes_what_waits_and_later_blocks_are_not_kept(build: Build) -> None:
    cache = build()
    rooms = [cache.reserve(block_id(number, SIZE)) for number in (1, 2)]
    assert rooms[0] is not None
    assert rooms[1] is not None
    assert rooms[0].store(DATA)
    cache.close()
    assert not rooms[1].store(DATA)
    assert kept(build(), range(3)) == [1]


def test_a_block_that_begins_after_close_books_nothing(build: Build) -> None:
    cache, other = build(room=64 * EACH), build(room=64 * EACH)
    assert cache.put(block_id(1, SIZE), DATA)
    cache.close()
    assert cache.reserve(block_id(2, SIZE)) is None
    assert other.usage() == Usage(blocks=1, total_bytes=EACH, reserved_bytes=0)


def test_blocks_are_kept_again_after_room_could_not_be_made(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = build()
    with monkeypatch.context() as patch:
        patch.setattr(cache._index, "_rest_s", 0.0)
        patch.setattr(cache._eviction, "room", _refused)
        assert not any(cache.put(block_id(number, SIZE), DATA) for number in range(20))
    assert cache.put(block_id(1, SIZE), DATA)
    assert cache.usage() == Usage(blocks=1, total_bytes=EACH, reserved_bytes=0)


def _refused(*_: object) -> int:
    raise OSError(13, "Permission denied")


def test_a_booking_outlives_a_busy_index(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = build(room=64 * EACH)
    assert cache.put(block_id(1, SIZE), DATA)
    before = cache.usage()
    assert before is not None
    with monkeypatch.context() as patch:
        patch.setattr(cache._index, "_rest_s", 0.0)
        patch.setattr(cache._index, "_begin", _refused)
        assert cache.reserve(block_id(9, 9 * SIZE)) is None  # more than is booked
        assert not cache.put(block_id(2, SIZE), DATA)  # drawn, but no row can be made
    assert cache.put(block_id(3, SIZE), DATA)
    after = cache.usage()
    assert after is not None
    assert after.reserved_bytes == before.reserved_bytes - EACH


def test_free_space_is_left(build: Build) -> None:
    free = [10 * EACH]

    def space(_: Path) -> DiskSpace:
        return DiskSpace(total=1000 * EACH, free=free[0])

    cache = build(room=10 * EACH, keep_free=8 * EACH, space=space)
    assert cache.put(block_id(1, SIZE), DATA)
    free[0] -= EACH
    assert cache.put(block_id(2, SIZE), DATA)
    free[0] -= EACH
    assert cache.put(block_id(3, SIZE), DATA)  # in the place of the first
    assert kept(cache, range(5)) == [2, 3]
    free[0] = EACH  # others fill the disk: the cache gives way, and cannot do more
    assert not cache.put(block_id(4, SIZE), DATA)
    assert kept(cache, range(5)) == []


def test_a_lower_limit_is_reached_by_reservations_without_a_long_wait(build: Build) -> None:
    cache = build(room=200 * EACH)
    for number in range(600):
        cache.put(block_id(number, 10), bytes(10))
    cache.close()
    smaller = build(room=5 * disk_bytes(block_id(1, 10)))
    answers = [smaller.put(block_id(1000 + n, 10), bytes(10)) for n in range(4)]
    assert answers == [False, False, True, True]
    assert smaller.snapshot()["evictions"] == 597


def test_a_failed_write_gives_the_room_back(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = build(room=EACH)

    def full(fd: int, data: tuple[bytes, ...]) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr("zarrfuse.cache.files.os.writev", full)
        assert not cache.put(block_id(1, SIZE), DATA)
        assert not cache.put(block_id(2, SIZE), DATA)
    assert [line["log_level"] for line in logs] == ["warning", "debug"]
    assert block_files(tmp_path) == []
    assert cache.put(block_id(3, SIZE), DATA)


def test_a_cache_removed_under_our_feet_is_made_again(build: Build, tmp_path: Path) -> None:
    cache = build()
    cache.put(block_id(1, SIZE), DATA)
    (tmp_path / "v1").rename(tmp_path / "gone")
    assert cache.get(block_id(1, SIZE)) is None
    assert cache.put(block_id(1, SIZE), DATA)
    assert cache.get(block_id(1, SIZE)) == DATA


def _writer(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.support.cache_writer", *map(str, arguments)]


@contextmanager
def _stalled(directory: Path, limit: int, where: str) -> Iterator[None]:
    """A daemon that was killed at that point of storing block 1."""
    command = _writer("stall", directory, limit, SIZE, where)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        process.kill()
        process.wait(timeout=30)
        assert said == where
    yield


@pytest.mark.parametrize("where", ["reserved", "half-written", "written", "renamed"])
def test_kill_9_leaves_nothing_unaccounted(tmp_path: Path, where: str) -> None:
    with _stalled(tmp_path, 3 * EACH, where):
        cache = DrainedCache(tmp_path, Limits(3 * EACH, 0))
        served = cache.get(block_id(1, SIZE))
        assert served == (bytes([1]) * SIZE if where == "renamed" else None)
        usage = cache.usage()
        assert usage is not None
        assert usage == Usage(blocks=0, total_bytes=EACH, reserved_bytes=EACH)
        cache.close()
    late = Clock()
    late.now = 2 * 10**18 + 10**18  # far beyond any wall clock of this test
    cache = DrainedCache(tmp_path, Limits(3 * EACH, 0), clock_ns=late)
    assert all(cache.put(block_id(n, SIZE), DATA) for n in (2, 3, 4))
    assert len(block_files(tmp_path)) == 3
    assert kept(cache, range(5)) == [2, 3, 4]
    cache.close()


def test_the_limit_holds_with_threads_and_processes(tmp_path: Path) -> None:
    limit = 10 * EACH
    cache = DrainedCache(tmp_path, Limits(limit, 0))
    command = _writer("fill", tmp_path, limit, SIZE, 2, 800)
    done = threading.Event()
    kept_here: list[int] = []

    def work() -> None:
        kept_here.append(fill(cache, SIZE, 1, 800))
        done.set()

    worker = threading.Thread(target=work)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        worker.start()
        seen = 0
        while not (done.is_set() and other.poll() is not None):
            seen = max(seen, _bytes_in_files(cache, tmp_path))
            done.wait(0.02)
        assert other.stdout is not None
        kept_there = int(other.stdout.read())
        worker.join(timeout=60)
    assert other.returncode == 0
    assert kept_there > 20
    assert kept_here[0] > 20
    assert 5 * EACH < seen <= limit
    assert cache.usage() == Usage(len(found := block_files(tmp_path)), len(found) * EACH, 0)
    cache.close()


def _bytes_in_files(cache: DrainedCache, directory: Path) -> int:
    """Under the index's lock, so that nothing is evicted or published while we count."""
    with cache._index.transaction():
        return sum(map(size_of, block_files(directory)))


def test_only_what_is_kept_is_read_ahead(build: Build, tmp_path: Path) -> None:
    cache = build()
    kept, absent = block_id(1, SIZE), block_id(2, SIZE)
    assert cache.put(kept, DATA)
    assert cache.read_ahead(kept)
    assert not cache.read_ahead(absent)
    block_files(tmp_path)[0].unlink()
    assert not cache.read_ahead(kept)
