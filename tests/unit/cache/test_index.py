"""The index: broken, locked, replaced and rebuilt; never an error for a reader."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.cache_fakes import DrainedCache, block_id
from zarrfuse.cache.counters import Complaints
from zarrfuse.cache.index import Index, IndexUnusable
from zarrfuse.cache.limits import Limits
from zarrfuse.cache.rows import SCHEMA, Row, Rows

SIZE = 1000
DATA = b"x" * SIZE
LIMITS = Limits(15 * 4096, 0)  # so small that nothing is booked ahead


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[DrainedCache]:
    cache = DrainedCache(tmp_path, LIMITS)
    for number in range(3):
        assert cache.put(block_id(number), DATA)
    yield cache
    cache.close()


def index_of(directory: Path) -> Path:
    (path,) = directory.glob("v1/index-*.sqlite")
    return path


def _garbage(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")


def _without_totals(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE total")


def _removed(path: Path) -> None:
    path.unlink()


BREAKAGES = [_garbage, _empty, _foreign, _without_totals, _removed]


@pytest.mark.parametrize("break_it", BREAKAGES)
def test_a_broken_index_is_made_again_from_the_files(
    cache: DrainedCache, tmp_path: Path, break_it: Callable[[Path], None]
) -> None:
    before = cache.usage()
    cache.close()
    old = index_of(tmp_path)
    for suffix in ("-wal", "-shm"):
        old.with_name(old.name + suffix).unlink(missing_ok=True)
    break_it(old)
    again = DrainedCache(tmp_path, LIMITS)
    with capture_logs():
        assert again.usage() == before
    assert again.get(block_id(1)) == DATA
    assert again.put(block_id(7), DATA)
    assert index_of(tmp_path) != old
    again.close()


@pytest.mark.parametrize("break_it", [_garbage, _without_totals])
def test_an_index_that_breaks_in_use_is_replaced(
    cache: DrainedCache, tmp_path: Path, break_it: Callable[[Path], None]
) -> None:
    other = DrainedCache(tmp_path, LIMITS)
    assert other.usage() == cache.usage()
    old = index_of(tmp_path)
    break_it(old)
    with capture_logs() as logs:
        for number in range(10, 13):  # SQLite may serve some from its own cache first
            cache.put(block_id(number), DATA)
            other.put(block_id(number + 10), DATA)
        cache.usage()
        usage = cache.usage()
    assert all(line["log_level"] != "error" for line in logs)
    assert usage is not None
    assert usage == other.usage()
    assert usage.blocks == len([p for p in tmp_path.glob("v1/*/*/*") if p.is_file()])
    assert cache.get(block_id(1)) == other.get(block_id(1)) == DATA
    other.close()


def test_files_and_half_written_ones_are_counted_by_a_new_index(
    cache: DrainedCache, tmp_path: Path
) -> None:
    cache._files.write(block_id(5), 77, DATA)
    with cache._index.transaction() as rows:
        rows.add([Row(block_id(5).name, 4096, 10**18, 77)])
        before = rows.usage(), rows.oldest(10, stale_before_ns=0)
    index_of(tmp_path).unlink()
    with cache._index.transaction() as rows:
        after = rows.usage(), rows.oldest(10, stale_before_ns=0)
    assert after[0] == before[0]
    assert [row.name for row in after[1]] == [row.name for row in before[1]]


def test_a_booking_lost_with_the_index_is_made_again(cache: DrainedCache, tmp_path: Path) -> None:
    rooms = [cache.reserve(block_id(number)) for number in (5, 6)]
    index_of(tmp_path).unlink()
    assert rooms[0] is not None
    assert rooms[0].store(DATA)
    cache.drain()
    assert cache.reserve(block_id(7)) is not None
    usage = cache.usage()
    assert usage is not None
    assert (usage.blocks, usage.reserved_bytes) == (4, 2 * 4096)
    assert cache.get(block_id(5)) == DATA


def test_a_locked_index_is_done_without(cache: DrainedCache, tmp_path: Path) -> None:
    complaints = Complaints()
    patient = Index(tmp_path / "v1", list, complaints, busy_s=0.01, rest_s=60)
    with capture_logs() as logs, cache._index.transaction():
        for _ in range(2):
            with pytest.raises(IndexUnusable), patient.transaction():
                raise AssertionError("the index is locked")
    assert [line["event"] for line in logs] == ["cache.index.bypassed"]
    with pytest.raises(IndexUnusable, match="a moment ago"), patient.transaction():
        raise AssertionError("the index rests")


def test_blocks_are_read_while_the_index_is_locked(cache: DrainedCache, tmp_path: Path) -> None:
    other = DrainedCache(tmp_path, LIMITS)
    with cache._index.transaction(), capture_logs() as logs:
        assert other.get(block_id(1)) == DATA
        assert not other.put(block_id(9), DATA)
        assert other.get(block_id(1)) == DATA
    assert [line["event"] for line in logs] == ["cache.index.bypassed"]
    other.close()


def test_a_failed_body_changes_nothing(cache: DrainedCache) -> None:
    before = cache.usage()
    with pytest.raises(ZeroDivisionError), cache._index.transaction() as rows:
        rows.remove(block_id(1).name)
        raise ZeroDivisionError
    assert cache.usage() == before


def test_totals_follow_the_rows() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
        rows = Rows(connection)
        rows.add([Row(b"a", 10, 1, None), Row(b"b", 20, 2, 77), Row(b"a", 99, 3, None)])
        assert totals(rows) == (1, 30, 20)
        assert not rows.settle(b"b", 78)
        assert rows.settle(b"b", 77)
        rows.remove(b"a")
        rows.remove(b"c")
        assert totals(rows) == (1, 20, 0)


def totals(rows: Rows) -> tuple[int, int, int]:
    usage = rows.usage()
    return usage.blocks, usage.total_bytes, usage.reserved_bytes
