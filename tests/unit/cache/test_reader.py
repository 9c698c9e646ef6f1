"""The caching reader: one version, one fetch, and what it asks the bucket for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ByteSize

from tests.support.cache_fakes import SECOND_NS, VersionBucket
from zarrfuse.cache.blocks import BlockCache
from zarrfuse.cache.limits import Limits
from zarrfuse.cache.memory import MemoryBlocks
from zarrfuse.cache.reader import CachingReader
from zarrfuse.cache.tiers import DiskTier, NoDisk
from zarrfuse.config import MIB, Cache
from zarrfuse.core.keys import ETag, Key, ObjectMeta
from zarrfuse.errors import Unavailable, VersionChanged
from zarrfuse.store.base import Fetched

WAIT_S = 20
CONFIG = Cache(block_bytes=ByteSize(100), whole_bytes=ByteSize(250))
BODY = bytes(range(256)) * 4  # 1024 bytes: eleven blocks


@pytest.fixture
def bucket() -> VersionBucket:
    return VersionBucket()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[BlockCache]:
    cache = BlockCache(tmp_path, Limits(10**7, 0))
    yield cache
    cache.close()


def reader_of(
    bucket: VersionBucket, disk: DiskTier | None = None, *, memory: int = 10**6
) -> CachingReader:
    tier = disk or NoDisk()
    return CachingReader(bucket, tier, MemoryBlocks(memory), CONFIG, bucket="s3://b")


def test_a_small_object_is_one_request(bucket: VersionBucket) -> None:
    meta = bucket.write("c/0.0", BODY[:250])
    reader = reader_of(bucket)
    assert reader.read(meta, 10, 20) == BODY[10:20]
    assert reader.read(meta, 0, 10**9) == BODY[:250]
    assert reader.read(meta, 250, 300) == reader.read(meta, 20, 20) == b""
    assert bucket.gets == [("c/0.0", 0, 250)]


def test_an_empty_object_needs_no_request(bucket: VersionBucket) -> None:
    meta = bucket.write("empty", b"")
    assert reader_of(bucket).read(meta, 0, 100) == b""
    assert reader_of(bucket).read(meta, 0, meta.size) == b""
    assert bucket.gets == []


def test_a_large_object_comes_in_blocks_and_neighbours_together(bucket: VersionBucket) -> None:
    meta = bucket.write("large", BODY)
    reader = reader_of(bucket)
    assert reader.read(meta, 410, 420) == BODY[410:420]
    assert reader.read(meta, 150, 850) == BODY[150:850]
    assert reader.read(meta, 0, meta.size) == BODY
    assert [(start, stop) for _, start, stop in bucket.gets] == [
        (400, 500),
        (100, 400),
        (500, 900),
        (0, 100),
        (900, 1024),
    ]


def test_one_request_is_bounded(bucket: VersionBucket) -> None:
    data = bytes(40 * MIB)
    meta = bucket.write("large", data)
    reader = CachingReader(bucket, NoDisk(), MemoryBlocks(0), Cache(), bucket="b")
    assert reader.read(meta, 0, meta.size) == data
    assert [stop - start for _, start, stop in bucket.gets if stop is not None] == [
        16 * MIB,
        16 * MIB,
        8 * MIB,
    ]


def test_the_disk_serves_after_a_restart(bucket: VersionBucket, disk: BlockCache) -> None:
    meta = bucket.write("large", BODY)
    reader_of(bucket, disk).read(meta, 0, meta.size)
    bucket.remove("large")
    again = reader_of(bucket, disk)
    assert again.read(meta, 0, meta.size) == BODY
    assert len(bucket.gets) == 1
    assert again.snapshot()["hits_disk"] == 11
    assert again.read(meta, 0, meta.size) == BODY
    assert again.snapshot()["hits_memory"] == 11


def test_another_bucket_on_the_same_disk_is_another_cache(
    bucket: VersionBucket, disk: BlockCache
) -> None:
    meta = bucket.write("c", b"one")
    reader_of(bucket, disk).read(meta, 0, meta.size)
    other = VersionBucket()
    other.write("c", b"two", etag=meta.etag)
    reader = CachingReader(other, disk, MemoryBlocks(0), CONFIG, bucket="s3://other")
    assert reader.read(meta, 0, meta.size) == b"two"


def test_counters(bucket: VersionBucket, disk: BlockCache) -> None:
    meta = bucket.write("large", BODY)
    reader = reader_of(bucket, disk)
    reader.read(meta, 0, 150)
    reader.read(meta, 50, 150)
    disk.drain()
    counted = reader.snapshot()
    assert counted["misses"] == 2
    assert counted["fetches"] == 1
    assert counted["fetched_bytes"] == counted["stored_bytes"] == 200
    assert counted["read_bytes"] == 250
    assert counted["hits_memory"] == counted["disk_blocks"] == counted["memory_blocks"] == 2


def test_what_was_published_reads_without_a_request(
    bucket: VersionBucket, disk: BlockCache
) -> None:
    meta = bucket.write("large", BODY)
    reader = reader_of(bucket, disk)
    reader.keep(meta, BODY)
    assert reader.read(meta, 0, meta.size) == BODY
    assert reader.read(meta, 210, 220) == BODY[210:220]
    assert bucket.gets == []
    with pytest.raises(ValueError, match="which has 1024"):
        reader.keep(meta, BODY[1:])


#: Blocks of sixteen pieces.
FINE = Cache(block_bytes=ByteSize(160), whole_bytes=ByteSize(250), piece_bytes=ByteSize(10))
LONG = bytes(range(250)) * 6


def fine_reader(
    bucket: VersionBucket, disk: DiskTier | None = None, *, memory: int = 10**6
) -> CachingReader:
    return CachingReader(bucket, disk or NoDisk(), MemoryBlocks(memory), FINE, bucket="s3://b")


def ranges(bucket: VersionBucket) -> list[tuple[int, int | None]]:
    return [(start, stop) for _, start, stop in bucket.gets]


def test_a_small_read_of_a_large_object_fetches_the_pieces_it_touches(
    bucket: VersionBucket,
) -> None:
    meta = bucket.write("large", LONG)
    reader = fine_reader(bucket)
    assert reader.read(meta, 333, 336) == LONG[333:336]
    assert reader.read(meta, 331, 339) == LONG[331:339]
    assert reader.read(meta, 325, 355) == LONG[325:355]
    assert ranges(bucket) == [(330, 340), (320, 330), (340, 360)]


def test_neighbouring_pieces_of_two_blocks_are_one_request(bucket: VersionBucket) -> None:
    meta = bucket.write("large", LONG)
    reader = fine_reader(bucket)
    assert reader.read(meta, 315, 325) == LONG[315:325]
    assert reader.read(meta, 475, 600) == LONG[475:600]
    assert ranges(bucket) == [(310, 330), (470, 640)]


def test_a_block_is_fetched_once_half_of_its_pieces_were_asked_for(bucket: VersionBucket) -> None:
    meta = bucket.write("large", LONG)
    reader = fine_reader(bucket)
    for start in range(160, 230, 10):
        assert reader.read(meta, start, start + 3) == LONG[start : start + 3]
        assert reader.read(meta, start, start + 4) == LONG[start : start + 4]
    assert reader.read(meta, 300, 301) == LONG[300:301]
    assert reader.read(meta, 160, 320) == LONG[160:320]
    assert ranges(bucket)[-1] == (160, 320)
    assert len(bucket.gets) == 8


def test_the_block_serves_small_reads_and_not_its_pieces(
    bucket: VersionBucket, disk: BlockCache
) -> None:
    meta = bucket.write("large", LONG)
    fine_reader(bucket, disk).read(meta, 160, 320)
    reader = fine_reader(bucket, disk)
    assert reader.read(meta, 200, 203) == LONG[200:203]
    assert reader.read(meta, 170, 250) == LONG[170:250]
    assert len(bucket.gets) == 1
    counted = reader.snapshot()
    assert (counted["hits_disk"], counted["memory_blocks"], counted["misses"]) == (1, 1, 0)


def test_pieces_are_kept_on_disk(bucket: VersionBucket, disk: BlockCache) -> None:
    meta = bucket.write("large", LONG)
    fine_reader(bucket, disk).read(meta, 333, 346)
    reader = fine_reader(bucket, disk)
    assert reader.read(meta, 335, 350) == LONG[335:350]
    assert ranges(bucket) == [(330, 350)]
    assert reader.snapshot()["hits_disk"] == 2


def test_an_inner_range_fetches_nothing_around_it(bucket: VersionBucket) -> None:
    shard = bucket.write("c/0/0", LONG[:240])
    reader = fine_reader(bucket)
    for start in range(0, 200, 20):
        assert reader.read_inner(shard, start + 2, start + 12) == LONG[start + 2 : start + 12]
    assert ranges(bucket) == [(start, start + 20) for start in range(0, 200, 20)]
    assert reader.read_inner(shard, 0, 240) == LONG[:240]
    assert reader.read_inner(shard, 205, 206) == LONG[205:206]
    assert ranges(bucket)[10:] == [(0, 240)]


def test_an_inner_range_of_a_tiny_object_is_all_of_it(bucket: VersionBucket) -> None:
    meta = bucket.write("c/0", LONG[:40])
    assert fine_reader(bucket).read_inner(meta, 3, 5) == LONG[3:5]
    assert ranges(bucket) == [(0, 40)]


def test_fetching_gives_what_reading_needs(bucket: VersionBucket) -> None:
    meta = bucket.write("large", LONG)
    reader = fine_reader(bucket)
    reader.fetch(meta, 160, 800)
    assert reader.read(meta, 165, 700) == LONG[165:700]
    assert ranges(bucket) == [(160, 800)]
    assert reader.snapshot()["read_bytes"] == 535


def test_a_small_read_waits_for_its_block_that_is_on_its_way(bucket: VersionBucket) -> None:
    meta = bucket.write("large", LONG)
    asked, go = threading.Event(), threading.Event()

    def slowly(key: Key) -> None:
        asked.set()
        assert go.wait(WAIT_S)

    bucket.before_answer = slowly
    reader = fine_reader(bucket)
    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(reader.fetch, meta, 160, 320)
        assert asked.wait(WAIT_S)
        small = pool.submit(reader.read, meta, 200, 203)
        with pytest.raises(TimeoutError):
            small.result(0.1)
        go.set()
        whole.result(WAIT_S)
        assert small.result(WAIT_S) == LONG[200:203]
    assert ranges(bucket) == [(160, 320)]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 1600), st.integers(0, 500)), max_size=40),
    st.sampled_from([0, 3000, 10**6]),
)
def test_any_reads_give_the_right_bytes(reads: list[tuple[bool, int, int]], memory: int) -> None:
    bucket = VersionBucket()
    meta = bucket.write("large", LONG)
    reader = fine_reader(bucket, memory=memory)
    for inner, start, length in reads:
        read = reader.read_inner if inner else reader.read
        assert read(meta, start, start + length) == LONG[start : start + length]


@pytest.mark.parametrize("memory", [10**6, 0])
def test_readers_of_one_block_share_its_fetch(bucket: VersionBucket, memory: int) -> None:
    meta = bucket.write("c", BODY[:200])
    asked, go = threading.Event(), threading.Event()

    def slowly(key: Key) -> None:
        asked.set()
        assert go.wait(WAIT_S)

    bucket.before_answer = slowly
    reader = reader_of(bucket, memory=memory)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(reader.read, meta, 0, 10)
        assert asked.wait(WAIT_S)
        joined = threading.Barrier(6)
        join = reader._flights._join

        def seen(key: object) -> object:
            answer = join(key)  # type: ignore[arg-type]
            joined.wait(WAIT_S)
            return answer

        reader._flights._join = seen  # type: ignore[assignment, method-assign]
        others = [pool.submit(reader.read, meta, n, 100) for n in range(5)]
        joined.wait(WAIT_S)  # all are in the table: nobody has come too early or too late
        go.set()
        assert first.result(WAIT_S) == BODY[:10]
        assert [other.result(WAIT_S) for other in others] == [BODY[n:100] for n in range(5)]
    assert len(bucket.gets) == 1


def test_readers_of_other_blocks_do_not_wait(bucket: VersionBucket) -> None:
    slow, quick = bucket.write("slow", b"slow"), bucket.write("quick", b"quick")
    asked, go = threading.Event(), threading.Event()

    def slowly(key: Key) -> None:
        if key == "slow":
            asked.set()
            assert go.wait(WAIT_S)

    bucket.before_answer = slowly
    reader = reader_of(bucket)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reader.read, slow, 0, slow.size)
        assert asked.wait(WAIT_S)
        assert reader.read(quick, 0, quick.size) == b"quick"
        assert not waiting.done()
        go.set()
        assert waiting.result(WAIT_S) == b"slow"


def test_an_error_is_the_readers_and_keeps_nothing(bucket: VersionBucket, disk: BlockCache) -> None:
    meta = bucket.write("c", b"data")

    def fail(key: Key) -> None:
        raise Unavailable("503", status=503)

    bucket.before_answer = fail
    reader = reader_of(bucket, disk)
    with pytest.raises(Unavailable):
        reader.read(meta, 0, meta.size)
    assert reader.snapshot()["disk_blocks"] == 0
    bucket.before_answer = lambda key: None
    assert reader.read(meta, 0, meta.size) == b"data"


def test_a_damaged_block_is_fetched_again(
    bucket: VersionBucket, disk: BlockCache, tmp_path: Path
) -> None:
    meta = bucket.write("c", b"data")
    reader_of(bucket, disk).read(meta, 0, meta.size)
    disk.drain()
    (path,) = (path for path in tmp_path.glob("v1/*/*/*") if path.is_file())
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    reader = reader_of(bucket, disk)
    assert reader.read(meta, 0, meta.size) == b"data"
    assert (len(bucket.gets), reader.snapshot()["damaged"]) == (2, 1)


def test_an_overwritten_version_is_gone_but_for_what_is_cached(bucket: VersionBucket) -> None:
    old = bucket.write("large", BODY)
    reader = reader_of(bucket)
    assert reader.read(old, 0, 100) == BODY[:100]
    new = bucket.write("large", BODY[::-1])
    with pytest.raises(VersionChanged):
        reader.read(old, 0, 200)
    assert reader.read(old, 0, 100) == BODY[:100]
    assert reader.read(new, 0, new.size) == BODY[::-1]
    bucket.remove("large")
    with pytest.raises(VersionChanged):
        reader.read(old, 100, 200)


def test_a_copied_multipart_object_is_read_by_the_etag_of_its_head(
    bucket: VersionBucket, disk: BlockCache
) -> None:
    listed = bucket.write_copied_multipart("large", BODY)
    reader = reader_of(bucket, disk)
    assert reader.read(listed, 0, 100) == BODY[:100]
    assert reader.read(listed, 0, listed.size) == BODY
    assert (len(bucket.heads), len(bucket.gets)) == (1, 3)
    bucket.remove("large")
    assert reader_of(bucket, disk).read(listed, 0, listed.size) == BODY


def test_the_other_form_is_believed_once(bucket: VersionBucket) -> None:
    listed = bucket.write_copied_multipart("large", BODY)
    reader = reader_of(bucket)
    assert reader.read(listed, 0, 100) == BODY[:100]
    bucket.write_copied_multipart("large", BODY[::-1])
    with pytest.raises(VersionChanged):
        reader.read(listed, 100, 200)
    assert len(bucket.heads) == 1


def test_a_version_that_was_read_has_no_other_form(bucket: VersionBucket) -> None:
    plain = bucket.write("large", BODY)
    reader = reader_of(bucket)
    assert reader.read(plain, 0, 100) == BODY[:100]
    bucket.write_copied_multipart("large", BODY[::-1])
    with pytest.raises(VersionChanged):
        reader.read(plain, 100, 200)


def test_the_same_bytes_written_again_after_a_copy_are_readable(bucket: VersionBucket) -> None:
    listed = bucket.write_copied_multipart("large", BODY)
    reader = reader_of(bucket)
    reader.read(listed, 0, 100)
    again = bucket.write("large", BODY, at_ns=60 * SECOND_NS)
    assert again.etag == listed.etag
    assert reader.read(again, 0, again.size) == BODY


@pytest.mark.parametrize(
    "head",
    [
        {"etag": "f" * 32},  # another MD5: another version, though of that size and second
        {"at_ns": 7 * SECOND_NS},
        {"data": BODY + b"longer"},
    ],
    ids=["plain", "another second", "another size"],
)
def test_anything_else_is_a_change(bucket: VersionBucket, head: dict[str, object]) -> None:
    listed = bucket.write_copied_multipart("large", BODY)
    bucket.write("large", **{"data": BODY, "etag": "e-2", **head})  # type: ignore[arg-type]
    with pytest.raises(VersionChanged):
        reader_of(bucket).read(listed, 0, 100)
    assert len(bucket.gets) == 1


SPOILT = {
    "short": lambda it: Fetched(it.meta, it.data[:-1]),
    "empty": lambda it: Fetched(it.meta, b""),
    "long": lambda it: Fetched(it.meta, it.data + b"x"),
    "grown": lambda it: Fetched(replace(it.meta, size=it.meta.size + 1), it.data),
    "another version": lambda it: Fetched(replace(it.meta, etag=ETag("z")), it.data),
}


@pytest.mark.parametrize("how", SPOILT)
def test_an_answer_that_is_not_what_was_asked_is_rejected(
    bucket: VersionBucket, disk: BlockCache, how: str
) -> None:
    meta = bucket.write("large", BODY)
    bucket.spoil = SPOILT[how]
    reader = reader_of(bucket, disk)
    with pytest.raises(VersionChanged):
        reader.read(meta, 100, 300)
    assert reader.snapshot()["disk_blocks"] == reader.snapshot()["memory_blocks"] == 0


reads = st.tuples(st.just("read"), st.integers(0, 5), st.integers(-3, 600), st.integers(-3, 600))
writes = st.tuples(
    st.sampled_from(["write", "multipart", "remove"]),
    st.integers(0, 5),
    st.integers(0, 3),
    st.just(0),
)


@settings(max_examples=60)
@given(
    st.lists(st.one_of(reads, writes), max_size=40),
    st.sampled_from([0, 1500, 10**6]),
    st.sampled_from([0, 20_000, 10**7]),
)
def test_versions_are_never_mixed(
    steps: list[tuple[str, int, int, int]], memory: int, room: int
) -> None:
    """All overwrites have one size and one second: only ETags tell them apart.

    Each byte of a version tells which one it is of. What a meta was first read as, it stays; that
    may be another version only where a multipart object replaced its own before the first read.
    """
    bucket = VersionBucket()
    metas = [bucket.write("k", bytes([1]) * 400)]
    read_as: dict[ObjectMeta, int] = {}
    with TemporaryDirectory() as directory:
        disk = BlockCache(Path(directory), Limits(room, 0))
        reader = reader_of(bucket, disk, memory=memory)
        for number, (step, which, start, stop) in enumerate(steps, start=2):
            if step == "write":
                metas.append(bucket.write("k", bytes([number]) * 400))
            elif step == "multipart":
                metas.append(bucket.write_copied_multipart("k", bytes([number]) * 400))
            elif step == "remove" and Key("k") in bucket._objects:
                bucket.remove("k")
            elif step == "read":
                meta = metas[-1 - which % len(metas)]
                for found in set(_read_if_there(reader, meta, start, stop)):
                    assert read_as.setdefault(meta, found) == found
        disk.close()


def _read_if_there(reader: CachingReader, meta: ObjectMeta, start: int, stop: int) -> bytes:
    try:
        data = reader.read(meta, start, stop)
    except VersionChanged:
        return b""
    assert len(data) == max(min(stop, meta.size) - max(start, 0), 0)
    return data
