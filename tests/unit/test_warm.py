"""Warming the cache, over a bucket in memory: what is fetched, what is not, and what is told."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ByteSize

from zarrfuse.cache.memory import MemoryBlocks
from zarrfuse.cache.opening import open_disk_tier, room_of
from zarrfuse.cache.pace import Pace
from zarrfuse.cache.reader import CachingReader
from zarrfuse.cache.tiers import DiskTier
from zarrfuse.cache.warm import Warmer
from zarrfuse.cache.warming import ChunkBox, WarmProgress, WarmRequest, WarmState
from zarrfuse.config import Cache, Warm
from zarrfuse.core.keys import Key
from zarrfuse.core.zarr.boxes import box_of
from zarrfuse.core.zarr.keys import key_of
from zarrfuse.core.zarr.metadata import ArrayGrid, ChunkEncoding
from zarrfuse.errors import ExitCode, RequestRejected, Unavailable, UserError
from zarrfuse.listing.listing import Listing
from zarrfuse.store.base import Page
from zarrfuse.store.faults import Fault, FaultyStore
from zarrfuse.store.memory import MemoryStore

ENCODINGS = [ChunkEncoding(".", "", 2), ChunkEncoding("/", "", 2), ChunkEncoding("/", "c", 3)]


class SmallPages(FaultyStore):
    """Its server gives fewer rows than it is asked for."""

    page_rows = 1000

    def list_page(
        self, prefix: str, *, after: str = "", delimiter: bool = False, limit: int = 1000
    ) -> Page:
        rows = min(limit, self.page_rows)
        return super().list_page(prefix, after=after, delimiter=delimiter, limit=rows)


@dataclass
class Room:
    """A bucket, a cache over it and what warms it."""

    store: FaultyStore
    disk: DiskTier
    cache: Cache
    warmer: Warmer

    def put(self, key: str, data: bytes) -> None:
        self.store.put(Key(key), data)

    def warm(self, *trees: str, **how: object) -> WarmProgress:
        """The outcome."""
        *_, last = self.lines(*trees, **how)
        return last

    def lines(self, *trees: str, **how: object) -> list[WarmProgress]:
        return list(self.warmer.run(WarmRequest.model_validate({"trees": trees, **how})))

    def gets(self) -> list[str]:
        return [call.key for call in self.store.calls if call.verb == "get"]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Room]]:
    made: list[Room] = []

    def build(
        *,
        page_rows: int = 1000,
        size: int = 10_000_000,
        at_once: int = 4,
        kind: type[SmallPages] = SmallPages,
    ) -> Room:
        cache = Cache(
            directory=tmp_path / f"cache-{len(made)}",
            size=ByteSize(size),
            keep_free_fraction=0,
            whole_bytes=ByteSize(100_000),
            block_bytes=ByteSize(50_000),
        )
        store = kind(MemoryStore())
        store.page_rows = page_rows
        disk = open_disk_tier(cache)
        listing = Listing(store, ttl_s=60, settle_s=0, page_rows=1000, max_keys=10_000)
        warmer = Warmer(
            store,
            listing,
            disk,
            cache,
            Warm(at_once=at_once),
            bucket="b",
            room_bytes=lambda: room_of(cache, disk),
        )
        made.append(Room(store, disk, cache, warmer))
        return made[-1]

    yield build
    for room in made:
        room.disk.close()


def chunks_of(room: Room, prefix: str, grid: ArrayGrid) -> list[str]:
    """Makes an object for every chunk; their keys."""
    keys = [
        prefix + key_of(grid, index) for index in itertools.product(*map(range, grid.grid_shape))
    ]
    for key in keys:
        room.put(key, key.encode())
    return keys


def test_what_was_warmed_reads_without_a_request(make: Callable[..., Room]) -> None:
    room = make()
    objects = {f"s.zarr/{n}": bytes([n]) * (n + 1) * 1000 for n in range(20)}
    for key, data in objects.items():
        room.put(key, data)
    room.put("s.zarr2/0", b"a neighbour")
    outcome = room.warm("s.zarr")
    assert (outcome.state, outcome.objects, outcome.fetched) == (WarmState.DONE, 20, 20)
    assert outcome.fetched_bytes == outcome.size_bytes == sum(map(len, objects.values()))
    assert sorted(room.gets()) == sorted(objects)
    reader = CachingReader(room.store, room.disk, MemoryBlocks(0), room.cache, bucket="b")
    for key, data in objects.items():
        assert reader.read(room.store.head(Key(key)), 0, len(data)) == data
    assert len(room.gets()) == len(objects)


def test_what_is_there_is_not_fetched_again(make: Callable[..., Room]) -> None:
    room = make()
    for n in range(10):
        room.put(f"d/{n}", b"x" * 100)
    room.warm("d/3")
    outcome = room.warm("d")
    assert (outcome.cached, outcome.fetched) == (1, 9)
    outcome = room.warm("d")
    assert (outcome.cached, outcome.fetched, outcome.cached_bytes) == (10, 0, 1000)
    assert len(room.gets()) == 10


def test_a_large_object_goes_on_at_the_block_it_stopped_at(make: Callable[..., Room]) -> None:
    room = make()
    room.put("big", bytes(1_000_000))
    meta = room.store.head(Key("big"))
    reader = CachingReader(room.store, room.disk, MemoryBlocks(0), room.cache, bucket="b")
    reader.read(meta, 0, 250_000)
    outcome = room.warm("big")
    assert (outcome.cached, outcome.fetched) == (0, 1)
    assert (outcome.cached_bytes, outcome.fetched_bytes) == (250_000, 750_000)
    assert room.warm("big").cached == 1


def test_a_dry_run_counts_and_fetches_nothing(make: Callable[..., Room]) -> None:
    room = make()
    for n in range(3):
        room.put(f"d/{n}", b"x" * 100)
    room.warm("d/0")
    outcome = room.warm("d", dry_run=True)
    assert (outcome.state, outcome.objects, outcome.size_bytes) == (WarmState.DONE, 3, 300)
    assert (outcome.cached, outcome.cached_bytes, outcome.fetched) == (1, 100, 0)
    assert room.gets() == ["d/0"]


def test_what_does_not_fit_is_refused_before_a_byte_is_fetched(make: Callable[..., Room]) -> None:
    room = make(size=200_000)
    for n in range(10):
        room.put(f"d/{n}", bytes(50_000))
    outcome = room.warm("d")
    assert outcome.state is WarmState.TOO_BIG
    assert outcome.needed_bytes > 500_000 > 200_000 >= outcome.room_bytes
    assert room.gets() == []


def test_without_a_cache_there_is_nothing_to_warm(make: Callable[..., Room]) -> None:
    with pytest.raises(UserError, match="keeps nothing") as caught:
        make(size=0).warm("d")
    assert caught.value.exit_code == ExitCode.CONFIG


def test_objects_without_bytes_and_markers_are_in_the_way_of_nobody(
    make: Callable[..., Room],
) -> None:
    room = make()
    for key in ("d/", "d/empty", "d/full", "d/deep/"):
        room.put(key, b"x" if key == "d/full" else b"")
    outcome = room.warm("d")
    assert (outcome.objects, outcome.cached, outcome.fetched) == (2, 1, 1)
    assert [call.key for call in room.store.calls if call.verb == "head"] == ["d/empty"]


def test_a_tree_that_is_not_in_the_bucket_is_named(make: Callable[..., Room]) -> None:
    with pytest.raises(UserError, match="/nothing") as caught:
        make().warm("nothing")
    assert caught.value.exit_code == ExitCode.NO_INPUT


def test_what_fails_is_named_and_the_rest_is_fetched(make: Callable[..., Room]) -> None:
    room = make(at_once=1)
    for n in range(10):
        room.put(f"d/{n}", b"x")
    room.store.plan = [Fault(at=4, verb="get", error=RequestRejected("no, not this one"))]
    outcome = room.warm("d")
    assert (outcome.state, outcome.fetched, outcome.failed) == (WarmState.DONE, 9, 1)
    assert [(missed.key, missed.reason) for missed in outcome.missed] == [
        ("d/3", "no, not this one")
    ]
    assert room.warm("d").fetched == 1


def test_what_the_cache_does_not_keep_is_no_success(
    make: Callable[..., Room], monkeypatch: pytest.MonkeyPatch
) -> None:
    room = make()
    for n in range(5):
        room.put(f"d/{n}", b"x")
    has = room.disk.has
    monkeypatch.setattr(room.disk, "has", lambda block: block.key != "d/3" and has(block))
    outcome = room.warm("d")
    assert (outcome.fetched, outcome.failed) == (4, 1)
    assert outcome.missed[0].key == "d/3" and "room" in outcome.missed[0].reason


def test_an_object_that_was_replaced_meanwhile_is_fetched_by_nobody(
    make: Callable[..., Room],
) -> None:
    room = make()
    room.put("d/0", b"old")
    lines = room.warmer.run(WarmRequest(trees=("d",)))
    assert next(lines).state is WarmState.LISTING
    room.put("d/0", b"new")
    *_, outcome = lines
    assert (outcome.fetched, outcome.failed) == (0, 1)
    assert room.warm("d").fetched == 1


def test_a_bucket_that_is_gone_is_not_asked_for_everything(make: Callable[..., Room]) -> None:
    room = make()
    for n in range(200):
        room.put(f"d/{n}", b"x")
    room.store.plan = [Fault(at=1, verb="get", error=Unavailable("gone"), and_all_after=True)]
    outcome = room.warm("d")
    assert outcome.state is WarmState.GAVE_UP
    assert 0 < outcome.failed == len(room.gets()) < 100
    assert 0 < len(outcome.missed) <= 20


def test_who_hangs_up_stops_the_work(make: Callable[..., Room]) -> None:
    room = make(at_once=2)
    for n in range(50):
        room.put(f"d/{n}", b"x")
    seen, go = threading.Event(), threading.Event()
    inner = room.store.get

    def slow(*args: object, **how: object) -> object:
        seen.set()
        assert go.wait(30)
        return inner(*args, **how)  # type: ignore[arg-type]

    room.store.get = slow  # type: ignore[method-assign, assignment]
    lines = room.warmer.run(WarmRequest(trees=("d",)))
    while not seen.is_set():
        next(lines)
    lines.close()
    go.set()
    room.store.get = inner  # type: ignore[method-assign]
    assert room.warm("d", dry_run=True).cached <= 2
    assert room.warm("d").state is WarmState.DONE


def test_closing_ends_every_request(make: Callable[..., Room]) -> None:
    room = make()
    room.put("d/0", b"x")
    room.warmer.close()
    with pytest.raises(UserError, match="taken away"):
        room.warm("d")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("page_rows", [7, 1000])
def test_a_box_is_fetched_and_nothing_beside_it(
    make: Callable[..., Room], encoding: ChunkEncoding, page_rows: int
) -> None:
    room = make(page_rows=page_rows)
    grid = ArrayGrid((24, 11, 3), (2, 1, 1), encoding)
    keys = chunks_of(room, "s.zarr/a/", grid)
    room.store.delete(Key("s.zarr/a/" + key_of(grid, (10, 9, 1))))  # fill values: no object
    box = ChunkBox(
        array="/s.zarr/a",
        separator=encoding.separator,
        prefix=encoding.prefix,
        version=encoding.version,
        ranges=((2, 12), (9, 11), (1, 2)),
    )
    outcome = room.warm(boxes=(box,), files=("/s.zarr/a/.zarray",))
    wanted = {
        "s.zarr/a/" + key_of(grid, index)
        for index in itertools.product(range(2, 12), range(9, 11), range(1, 2))
    } - {"s.zarr/a/" + key_of(grid, (10, 9, 1))}
    assert set(room.gets()) == wanted and wanted < set(keys)
    assert (outcome.state, outcome.fetched) == (WarmState.DONE, len(wanted))


def test_a_box_asks_for_no_page_that_it_does_not_need(make: Callable[..., Room]) -> None:
    room = make(page_rows=50)
    grid = ArrayGrid((20, 100), (1, 1), ENCODINGS[0])
    chunks_of(room, "a/", grid)
    box = ChunkBox(array="a", separator=".", prefix="", version=2, ranges=((3, 5), (0, 1)))
    before = len(room.store.calls)
    assert room.warm(boxes=(box,)).fetched == 2
    assert [call.verb for call in room.store.calls[before:]].count("list_page") == 2


def test_a_large_box_is_listed_in_stretches(make: Callable[..., Room]) -> None:
    room = make()
    grid = ArrayGrid((50, 50), (1, 1), ENCODINGS[2])
    keys = chunks_of(room, "a/", grid)
    box = ChunkBox(array="a", separator="/", prefix="c", version=3, ranges=((0, 50), (0, 50)))
    before = len(room.store.calls)
    outcome = room.warm(boxes=(box,), dry_run=True)
    assert outcome.objects == len(keys) == 2500
    assert [call.verb for call in room.store.calls[before:]].count("list_page") == 3


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6)), max_size=3),
    st.data(),
    st.sampled_from(ENCODINGS),
)
def test_boxes_hold_the_chunks_of_their_positions(
    axes: list[tuple[int, int]], data: st.DataObject, encoding: ChunkEncoding
) -> None:
    grid = ArrayGrid(tuple(n for n, _ in axes), tuple(step for _, step in axes), encoding)
    positions = []
    for length, _ in axes:
        start = data.draw(st.integers(0, length))
        positions.append((start, data.draw(st.integers(start, length))))
    touched = {
        key_of(grid, tuple(at // step for at, (_, step) in zip(place, axes, strict=True)))
        for place in itertools.product(*(range(*one) for one in positions))
    }
    box = box_of(grid, positions)
    keys = list(box.in_key_order())
    assert set(keys) == touched and keys == sorted(keys) and len(keys) == box.count


def test_the_pace_is_kept_and_a_pause_is_not_made_up_for() -> None:
    now = [100.0]
    pace = Pace(50, clock=lambda: now[0])
    assert pace.pause_s() == 0
    pace.take(100)
    pace.take(25)
    assert pace.pause_s() == 2.5
    now[0] = 102.5
    assert pace.pause_s() == 0
    now[0] = 1000
    pace.take(50)
    assert pace.pause_s() == 1
    free = Pace(None, clock=lambda: now[0])
    free.take(10**12)
    assert free.pause_s() == 0


def test_a_limit_holds_back_what_follows(make: Callable[..., Room]) -> None:
    """One byte a second: after the first object nothing more is asked for, and lines go on."""
    room = make()
    for n in range(3):
        room.put(f"d/{n}", b"x" * 1000)
    lines = room.warmer.run(WarmRequest(trees=("d",), bytes_per_s=1))
    told = [next(lines) for _ in range(4)]
    lines.close()
    assert told[-1].state is WarmState.FETCHING
    assert len(room.gets()) == 1


def test_a_box_of_absurdly_many_chunks_is_refused(make: Callable[..., Room]) -> None:
    room = make()
    box = ChunkBox(array="a", separator=".", prefix="", version=2, ranges=((0, 10**8),))
    with pytest.raises(UserError, match="/a: 100000000 chunks") as caught:
        room.warm(boxes=(box,))
    assert caught.value.exit_code == ExitCode.USAGE
    assert room.store.calls == []


class Segmented(SmallPages):
    """Its listings say 0 of natively segmented objects."""

    def list_page(
        self, prefix: str, *, after: str = "", delimiter: bool = False, limit: int = 1000
    ) -> Page:
        page = super().list_page(prefix, after=after, delimiter=delimiter, limit=limit)
        return replace(page, objects=tuple(replace(meta, size=0) for meta in page.objects))


def test_chunks_and_files_that_a_listing_says_are_empty_are_looked_at(
    make: Callable[..., Room],
) -> None:
    room = make(kind=Segmented)
    grid = ArrayGrid((4, 3), (1, 1), ENCODINGS[2])
    keys = chunks_of(room, "a/", grid)
    room.put("a/zarr.json", b"{}")
    box = ChunkBox(array="a", separator="/", prefix="c", version=3, ranges=((0, 2), (0, 3)))
    outcome = room.warm(files=("a/zarr.json",), boxes=(box,))
    assert (outcome.cached, outcome.fetched) == (0, 7)
    assert sorted(room.gets()) == sorted([*keys[:6], "a/zarr.json"])
