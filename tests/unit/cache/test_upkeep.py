"""Clearing and verifying a cache directory, alone and beside a cache that is in use."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.cache_fakes import DrainedCache, block_id
from zarrfuse.cache.format import BlockId, disk_bytes, header_bytes
from zarrfuse.cache.limits import Limits
from zarrfuse.cache.rows import Row
from zarrfuse.cache.upkeep import NoCache, NotACache, NotOurs, clear, look, verify

SIZE = 20_000
DATA = bytes(range(250)) * 80
EACH = disk_bytes(block_id(1, SIZE))
LONG_AGO_NS = time.time_ns() - 3600 * 10**9


def no_progress(done: int, total: int) -> None:
    """Nobody watches."""


def opened(directory: Path, blocks: int = 1000) -> DrainedCache:
    return DrainedCache(directory, Limits(blocks * EACH, 0))


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[DrainedCache]:
    """In use all the time, as by a daemon, with ten blocks; too small to book room ahead."""
    with closing(opened(tmp_path, 15)) as daemon:
        for number in range(10):
            assert daemon.put(block_id(number, SIZE), DATA)
        yield daemon


def path_of(directory: Path, block: BlockId) -> Path:
    text = block.name.hex()
    return directory / "v1" / text[0] / text[1] / text


def blocks_of(cache: DrainedCache) -> int:
    usage = cache.usage()
    assert usage is not None
    return usage.blocks


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def remove_index(directory: Path) -> None:
    for path in directory.glob("v1/index-*"):
        path.unlink()


def test_look_counts_what_is_kept(cache: DrainedCache, tmp_path: Path) -> None:
    kept = look(tmp_path)
    assert (kept.blocks, kept.total_bytes, kept.reserved_bytes) == (10, 10 * EACH, 0)
    assert LONG_AGO_NS < (kept.oldest_use_ns or 0) < (kept.newest_use_ns or 0)
    reservation = cache.reserve(block_id(77, SIZE))
    assert reservation is not None
    assert (look(tmp_path).blocks, look(tmp_path).reserved_bytes) == (10, EACH)


@pytest.mark.parametrize("damage", ["gone", "corrupt", "foreign"])
def test_look_needs_no_index_and_makes_none(
    cache: DrainedCache, tmp_path: Path, damage: str
) -> None:
    cache.close()
    (index,) = tmp_path.glob("v1/index-*.sqlite")
    remove_index(tmp_path)
    if damage != "gone":
        index.write_bytes(b"x" * 9000 if damage == "corrupt" else b"")
    before = sorted(tmp_path.rglob("*"))
    assert look(tmp_path).blocks == 10
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_no_cache(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "absent"):
        for act in (lambda d: clear(d, no_progress), lambda d: verify(d, no_progress), look):
            with pytest.raises(NoCache):
                act(directory)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("foreign", ["notes.txt", "v1", "v1/notes.txt", "v1/a/b/notes.txt"])
def test_another_directory_is_refused_and_left_alone(tmp_path: Path, foreign: str) -> None:
    path = tmp_path / foreign
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    for act in (clear, verify):
        with pytest.raises(NotACache):
            act(tmp_path, no_progress)
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]


def test_a_link_to_a_cache_in_its_place_is_refused(cache: DrainedCache, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "v1").symlink_to(tmp_path / "v1")
    with pytest.raises(NotACache):
        clear(other, no_progress)
    assert blocks_of(cache) == 10


def test_the_cache_of_another_user_is_refused(
    cache: DrainedCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path / "v1").stat().st_uid + 1)
    for act in (clear, verify):
        with pytest.raises(NotOurs):
            act(tmp_path, no_progress)
    assert blocks_of(cache) == 10


def test_clear_beside_a_cache_in_use(cache: DrainedCache, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    done = clear(tmp_path, lambda done, total: steps.append((done, total)))
    assert (done.blocks, done.freed_bytes) == (10, 10 * EACH)
    assert steps[-1] == (10 * EACH, 10 * EACH)
    assert not any(path_of(tmp_path, block_id(n, SIZE)).exists() for n in range(10))
    assert blocks_of(cache) == 0
    assert cache.get(block_id(3, SIZE)) is None
    assert cache.put(block_id(3, SIZE), DATA)
    assert cache.get(block_id(3, SIZE)) == DATA
    assert blocks_of(cache) == 1
    assert cache.snapshot()["damaged"] == 0


def test_clear_leaves_a_block_that_is_being_fetched(cache: DrainedCache, tmp_path: Path) -> None:
    reservation = cache.reserve(block_id(77, SIZE))
    assert reservation is not None
    clear(tmp_path, no_progress)
    assert reservation.store(DATA)
    cache.drain()
    assert cache.get(block_id(77, SIZE)) == DATA
    assert blocks_of(cache) == 1


def test_clear_removes_nothing_foreign(cache: DrainedCache, tmp_path: Path) -> None:
    leaf = path_of(tmp_path, block_id(1, SIZE)).parent
    name = leaf.parent.name + leaf.name + "0" * 30
    foreign = [tmp_path / "notes", tmp_path / "v1/notes", leaf / "notes", leaf / f"x{name}"]
    for path in foreign:
        path.write_text("mine")
    link, directory = leaf / name, leaf / f"{name[:-1]}1"
    link.symlink_to(foreign[0])
    directory.mkdir()
    clear(tmp_path, no_progress)
    assert all(path.read_text() == "mine" for path in [*foreign, link])
    assert directory.is_dir()


def test_clear_works_on_many_and_without_an_index(cache: DrainedCache, tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as more:
        for number in range(10, 200):
            assert more.put(block_id(number, SIZE), DATA)
    cache.close()
    remove_index(tmp_path)
    assert clear(tmp_path, no_progress).blocks == 200
    assert look(tmp_path).blocks == 0
    with closing(opened(tmp_path)) as again:
        assert blocks_of(again) == 0


def test_verify_finds_nothing_wrong_with_a_good_cache(cache: DrainedCache, tmp_path: Path) -> None:
    odd = block_id(50, SIZE, key="ä/\udcff %2F\n.0")
    assert cache.put(odd, DATA)
    done = verify(tmp_path, no_progress)
    assert (done.good, done.good_bytes) == (11, 10 * EACH + disk_bytes(odd))
    assert (done.damaged.total(), done.adopted) == (0, 0)
    assert (done.rows_removed, done.temporaries_removed) == (0, 0)
    assert cache.get(odd) == DATA
    assert blocks_of(cache) == 11


@pytest.mark.parametrize("at", [0, 8, 12, 15, 16, 24, 42, header_bytes(block_id(4, SIZE)), -1])
def test_verify_removes_a_block_with_a_flipped_bit(
    cache: DrainedCache, tmp_path: Path, at: int
) -> None:
    """In the magic, the version, both lengths, the checksum, the identity and the payload."""
    path = path_of(tmp_path, block_id(4, SIZE))
    flip(path, at)
    done = verify(tmp_path, no_progress)
    assert (done.good, done.damaged.total(), done.rows_removed) == (9, 1, 1)
    assert not path.exists()
    assert blocks_of(cache) == 9
    assert cache.get(block_id(4, SIZE)) is None
    assert cache.put(block_id(4, SIZE), DATA)
    assert verify(tmp_path, no_progress).damaged.total() == 0


@pytest.mark.parametrize("length", [0, 10, 45, SIZE])
def test_verify_removes_a_block_that_was_cut(
    cache: DrainedCache, tmp_path: Path, length: int
) -> None:
    os.truncate(path_of(tmp_path, block_id(4, SIZE)), length)
    assert verify(tmp_path, no_progress).damaged.total() == 1
    assert blocks_of(cache) == 9


def test_verify_removes_a_block_under_the_name_of_another(
    cache: DrainedCache, tmp_path: Path
) -> None:
    whole = path_of(tmp_path, block_id(4, SIZE)).read_bytes()
    path_of(tmp_path, block_id(5, SIZE)).write_bytes(whole)
    assert verify(tmp_path, no_progress).damaged.total() == 1
    assert cache.get(block_id(4, SIZE)) == DATA


def test_verify_counts_files_that_have_no_row(cache: DrainedCache, tmp_path: Path) -> None:
    path = path_of(tmp_path, block_id(4, SIZE))
    whole = path.read_bytes()
    clear(tmp_path, no_progress)
    path.write_bytes(whole)
    assert blocks_of(cache) == 0
    assert verify(tmp_path, no_progress).adopted == 1
    assert blocks_of(cache) == 1
    assert cache.get(block_id(4, SIZE)) == DATA
    assert verify(tmp_path, no_progress).adopted == 0


def test_verify_settles_a_file_whose_writer_died_before_its_row_was(
    cache: DrainedCache, tmp_path: Path
) -> None:
    path = path_of(tmp_path, block_id(4, SIZE))
    whole = path.read_bytes()
    clear(tmp_path, no_progress)
    with cache._index.transaction() as rows:
        rows.add([Row(block_id(4, SIZE).name, EACH, time.time_ns(), 77)])
    path.write_bytes(whole)
    assert verify(tmp_path, no_progress).adopted == 1
    assert (look(tmp_path).blocks, look(tmp_path).reserved_bytes) == (1, 0)


def test_verify_removes_rows_without_files(cache: DrainedCache, tmp_path: Path) -> None:
    for number in range(3):
        path_of(tmp_path, block_id(number, SIZE)).unlink()
    done = verify(tmp_path, no_progress)
    assert (done.good, done.rows_removed) == (7, 3)
    assert blocks_of(cache) == 7


def test_verify_removes_what_dead_writers_left(tmp_path: Path) -> None:
    dead, lost, fresh = (block_id(n, SIZE) for n in (1, 2, 3))
    with closing(opened(tmp_path)) as old, old._index.transaction() as rows:
        rows.add([Row(dead.name, EACH, LONG_AGO_NS, 4)])
        rows.add([Row(b"a booking of one", EACH, LONG_AGO_NS, 4)])  # died before it made a file
    left = [
        _temporary(tmp_path, dead, 4, LONG_AGO_NS),
        _temporary(tmp_path, lost, 5, LONG_AGO_NS),
    ]
    alive = _temporary(tmp_path, fresh, 6, time.time_ns())
    done = verify(tmp_path, no_progress)
    assert (done.temporaries_removed, done.rows_removed) == (2, 2)
    assert not any(path.exists() for path in left)
    assert alive.exists()
    assert look(tmp_path).reserved_bytes == 0


def test_verify_leaves_a_reservation_alone(cache: DrainedCache, tmp_path: Path) -> None:
    reservation = cache.reserve(block_id(77, SIZE))
    assert reservation is not None
    done = verify(tmp_path, no_progress)
    assert (done.good, done.rows_removed) == (10, 0)
    assert reservation.store(DATA)
    assert cache.get(block_id(77, SIZE)) == DATA


def test_verify_mends_a_corrupt_index(cache: DrainedCache, tmp_path: Path) -> None:
    cache.close()
    (index,) = tmp_path.glob("v1/index-*.sqlite")
    index.write_bytes(b"x" * 9000)
    assert verify(tmp_path, no_progress).good == 10
    with closing(opened(tmp_path, 15)) as again:
        assert blocks_of(again) == 10


def test_clearing_and_verifying_again_and_again_beside_a_busy_cache(tmp_path: Path) -> None:
    def work(first: int) -> None:
        with closing(opened(tmp_path)) as daemon:
            for number in range(first, first + 300):
                daemon.put(block_id(number, SIZE), DATA)
                assert daemon.get(block_id(number - 3, SIZE)) in (None, DATA)
            seen.append(daemon.snapshot())

    seen: list[dict[str, int]] = []
    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 10_000)]
    with closing(opened(tmp_path)) as first:
        assert first.put(block_id(99_999, SIZE), DATA)
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        clear(tmp_path, no_progress)
        done = verify(tmp_path, no_progress)
        assert (done.damaged.total(), done.adopted) == (0, 0)
        time.sleep(0.01)
    assert [counts["damaged"] for counts in seen] == [0, 0]
    assert sum(counts["stored_bytes"] for counts in seen) > 0
    verify(tmp_path, no_progress)
    kept = look(tmp_path)
    assert kept.blocks == verify(tmp_path, no_progress).good


def _temporary(directory: Path, block: BlockId, token: int, at_ns: int) -> Path:
    path = path_of(directory, block)
    path = path.with_name(f"{path.name}.{token:x}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(DATA)
    os.utime(path, ns=(at_ns, at_ns))
    return path
