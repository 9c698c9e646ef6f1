"""All of a directory: right whatever the pages, in few of them, and as last known in an outage."""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_listing import SETTLE_S, TTL_S, World
from zarrfuse.core.keys import ROOT, Key, ObjectMeta, Prefix
from zarrfuse.core.zarr.keys import key_of
from zarrfuse.core.zarr.metadata import ArrayGrid, ChunkEncoding
from zarrfuse.core.zarr.splits import splits_of
from zarrfuse.errors import Unavailable
from zarrfuse.listing.listing import Listing
from zarrfuse.listing.rows import Row
from zarrfuse.store.base import Page, Store
from zarrfuse.store.faults import Fault, FaultyStore
from zarrfuse.store.memory import MemoryStore
from zarrfuse.store.wrapper import Call

A = Prefix("a/")


def truth(world: World, prefix: Prefix) -> list[tuple[str, Row]]:
    """What `children` should say."""
    page = world.memory.list_page(prefix, delimiter=True, limit=10**6)
    found: dict[str, Row] = {m.key.name: m for m in page.objects if m.key.name}
    found.update((child.name, child) for child in page.prefixes)
    return sorted(found.items())


def walk(listing: Listing, prefix: Prefix) -> Iterator[Key]:
    """Every object, as find goes."""
    for _, row in listing.children(prefix):
        if isinstance(row, Prefix):
            yield from walk(listing, row)
        else:
            yield row.key


class Uneven(FaultyStore):
    """Pages of any length, as servers may give, empty ones too."""

    lengths: Iterator[int] = itertools.repeat(1000)

    def list_page(
        self, prefix: str, *, after: str = "", delimiter: bool = False, limit: int = 1000
    ) -> Page:
        length = min(next(self.lengths), limit)
        return super().list_page(prefix, after=after, delimiter=delimiter, limit=max(length, 1))


NAMES = st.one_of(
    st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{1,2})?\Z"),
    st.from_regex(r"\Ac/[0-9]{1,2}/[0-9]{1,2}\Z"),
    st.sampled_from([".zarray", ".zattrs", "zarr.json", "x", "x/", "x/y", "x-", "x0", "é"]),
)


@settings(max_examples=100)
@given(
    st.lists(NAMES, unique=True, min_size=1, max_size=150),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.sampled_from(["", "a/", None]),
    st.sampled_from([None, 10, 1000]),
    st.lists(NAMES, max_size=5),
)
def test_whatever_the_pages_a_walk_finds_every_object_and_look_ups_agree(
    names: list[str],
    lengths: list[int],
    flat: str | None,
    objects: int | None,
    looked_up: list[str],
) -> None:
    world = World(page_rows=9)
    store = Uneven(world.memory)
    store.lengths = itertools.cycle(lengths)
    world.store = store
    world.put(*(f"a/{name}" for name in names))
    listing = world.listing()
    if flat is not None:
        grid = ArrayGrid((30, 30), (1, 1), ChunkEncoding("/", "c", 3))
        listing.flatten(Prefix(flat), objects=objects, splits=lambda n: splits_of(grid, n))
    for name in looked_up:
        key = Key(f"a/{name.rstrip('/')}")
        listing.lookup(key.parent, key.name)
    directories = {Prefix(m.key.parent) for m in world.memory.list_page("", limit=10**6).objects}
    shown = {
        m.key
        for m in world.memory.list_page("", limit=10**6).objects
        if m.key.name and m.key.as_prefix not in directories
    }
    assert sorted(walk(listing, ROOT)) == sorted(shown)
    for directory in directories:
        assert listing.children(directory) == truth(world, directory)
        for name, row in truth(world, directory):
            assert listing.lookup(directory, name) == row
    listing.close()


class Sorted(FaultyStore):
    """Lists many keys by bisection: the store in memory sorts them all for each page."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.metas = inner.list_page("", limit=10**7).objects
        self.keys = [meta.key for meta in self.metas]

    def list_page(
        self, prefix: str, *, after: str = "", delimiter: bool = False, limit: int = 1000
    ) -> Page:
        self.calls.append(Call("list_page", prefix))
        at = bisect_right(self.keys, after) if after > prefix else bisect_left(self.keys, prefix)
        objects: list[ObjectMeta] = []
        prefixes: list[Prefix] = []
        last = ""
        while at < len(self.keys) and self.keys[at].startswith(prefix):
            if len(objects) + len(prefixes) == limit:
                return Page(tuple(objects), tuple(prefixes), last)
            name, slash, _ = self.keys[at].under(Prefix(prefix)).partition("/")
            if slash and delimiter:
                child = Prefix(f"{prefix}{name}/")
                at = bisect_right(self.keys, f"{child}\U0010ffff")
                if child > after:
                    prefixes.append(last := child)
            else:
                objects.append(self.metas[at])
                last = str(self.keys[at])
                at += 1
        return Page(tuple(objects), tuple(prefixes), None)


def test_a_directory_of_50_001_keys_with_nested_prefixes() -> None:
    """Named in issue 3. Files, directories between them, and directories in these."""
    world = World()
    plain = [f"a/{n:05}" for n in range(40_000)]
    nested = [f"a/{n:05}.d/{k}" for n in range(0, 40_000, 40) for k in range(9)]
    deep = [f"a/20000.x/{n}/y/z" for n in range(1000)]
    keys = [*plain, *nested, *deep, "a/~"]
    assert len(keys) == 50_001
    world.put(*keys)
    world.store = Sorted(world.memory)
    listing = world.listing()
    assert listing.children(A) == truth(world, A)
    assert len(world.asked()) <= 41 * 2, "no grid says where to cut"
    listing.flatten(A)
    assert sorted(walk(listing, A)) == sorted(keys)


@pytest.mark.parametrize("grid_known", [True, False])
def test_find_over_an_array_of_many_small_directories_takes_one_flat_listing(
    *, grid_known: bool
) -> None:
    grid = ArrayGrid((40, 25, 20), (1, 1, 1), ChunkEncoding("/", "c", 3))
    indices = itertools.product(*map(range, grid.grid_shape))
    keys = ["a/zarr.json", *(f"a/{key_of(grid, index)}" for index in indices)]
    world = World()
    world.put(*keys)
    listing = world.listing()
    if grid_known:
        listing.flatten(A, objects=grid.count, splits=lambda n: splits_of(grid, n))
    assert sorted(walk(listing, A)) == sorted(keys)
    # 21 pages of all keys; the directories above are asked for by themselves until it walks on.
    assert len(world.asked()) <= (28 if grid_known else 34)


def test_looking_into_one_directory_of_a_large_array_does_not_list_it() -> None:
    world = World(page_rows=10)
    world.put("a/zarr.json", *(f"a/c/{t:03}/{y}" for t in range(500) for y in range(3)))
    listing = world.listing()
    listing.flatten(A, objects=1500)
    assert [name for name, _ in listing.children(A)] == ["c", "zarr.json"]
    assert [name for name, _ in listing.children(Prefix("a/c/250/"))] == ["0", "1", "2"]
    assert len(world.asked()) <= 3


@pytest.mark.parametrize("order", [1, -1])
def test_with_a_grid_any_order_of_look_ups_costs_each_page_once(order: int) -> None:
    grid = ArrayGrid((100, 100), (1, 1), ChunkEncoding("/", "c", 3))
    keys = sorted(f"a/{key_of(grid, index)}" for index in itertools.product(range(100), range(100)))
    world = World()
    world.put(*keys)
    listing = world.listing()
    listing.flatten(A, objects=grid.count, splits=lambda n: splits_of(grid, n))
    for text in keys[::order]:
        key = Key(text)
        assert isinstance(listing.lookup(key.parent, key.name), ObjectMeta)
    assert len(world.asked()) <= 12


class Together(FaultyStore):
    """Answers the pages behind the first only when four are asked for at the same time."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.barrier = threading.Barrier(4)
        self.met = threading.Event()

    def list_page(
        self, prefix: str, *, after: str = "", delimiter: bool = False, limit: int = 1000
    ) -> Page:
        if after > prefix and not self.met.is_set():
            self.barrier.wait(timeout=20)  # fails the listing if nobody else comes
            self.met.set()
        return super().list_page(prefix, after=after, delimiter=delimiter, limit=limit)


def test_pages_are_asked_for_at_the_same_time() -> None:
    grid = ArrayGrid((10, 1000), (1, 1), ChunkEncoding(".", "", 2))
    world = World()
    world.put(*(f"a/{key_of(grid, i)}" for i in itertools.product(range(10), range(1000))))
    store = Together(world.memory)
    world.store = store
    listing = world.listing()
    listing.flatten(A, objects=grid.count, splits=lambda n: splits_of(grid, n))
    assert listing.children(A) == truth(world, A)
    assert store.met.is_set()
    assert len(world.asked()) == 10


def test_a_failed_page_fails_the_listing_and_the_next_one_goes_on() -> None:
    world = World(page_rows=10)
    world.put(*(f"a/{n:03}" for n in range(400)))
    listing = world.listing()
    world.store.plan = [Fault(at=12, error=Unavailable("503"))]
    with pytest.raises(Unavailable):
        listing.children(A)
    assert listing.children(A) == truth(world, A)


# What is remembered ------------------------------------------------------------------------


def test_a_directory_larger_than_the_memory_is_listed_whole() -> None:
    world = World(page_rows=100, max_keys=1000)
    world.put(*(f"a/{n:04}" for n in range(3000)))
    listing = world.listing()
    assert listing.children(A) == truth(world, A)
    assert listing.snapshot()["known_keys"] <= 1000
    assert listing.children(A) == truth(world, A)


def test_known_keys_are_counted_and_bounded() -> None:
    world = World(max_keys=300)
    world.put(*(f"{d}/{n}" for d in range(50) for n in range(20)))
    listing = world.listing()
    for d in range(50):
        assert isinstance(listing.lookup(Prefix(f"{d}/"), "7"), ObjectMeta)
        assert listing.snapshot()["known_keys"] <= 300
    world.asked()
    assert isinstance(listing.lookup(Prefix("49/"), "8"), ObjectMeta)
    assert world.asked() == []


def test_directories_do_not_grow_old_together() -> None:
    world = World()
    world.put(*(f"{d}/x" for d in range(60)))
    listing = world.listing()
    for d in range(60):
        listing.lookup(Prefix(f"{d}/"), "x")
    world.asked()
    asked_at = []
    for _ in range(8):
        world.now_s += TTL_S / 16
        for d in range(60):
            listing.lookup(Prefix(f"{d}/"), "x")
        asked_at.append(len(world.asked()))
    assert sum(asked_at) == 60
    assert asked_at[:6] == [0] * 6, "at most a fifth sooner"
    assert asked_at[6] > 0
    assert asked_at[7] > 0


# An outage ---------------------------------------------------------------------------------


@contextmanager
def outage(world: World) -> Iterator[None]:
    world.store.plan = [Fault(at=1, error=Unavailable("unreachable"), and_all_after=True)]
    yield
    world.store.plan = []


def test_in_an_outage_what_was_known_is_answered_and_counted() -> None:
    world = World()
    world.put("a/0", "a/b/1")
    listing = world.listing()
    before = listing.children(A)
    assert listing.lookup(A, "not yet") is None
    world.now_s += 10 * TTL_S
    with outage(world):
        assert isinstance(listing.lookup(A, "0"), ObjectMeta)
        assert listing.lookup(A, "b") == Prefix("a/b/")
        with pytest.raises(Unavailable):
            listing.lookup(A, "not yet")
        assert listing.children(A, stale_ok=True) == before
        assert listing.snapshot()["stale_answers"] == 3
    world.put("a/not yet")
    assert listing.lookup(A, "not yet") is not None


def test_in_an_outage_nothing_is_made_up() -> None:
    world = World(page_rows=10)
    world.put(*(f"a/{n:03}" for n in range(100)), "b/x")
    listing = world.listing()
    assert listing.lookup(A, "050") is not None
    world.now_s += 10 * TTL_S
    with outage(world):
        assert listing.lookup(A, "055") is not None
        for parent, name in ((A, "010"), (A, "nothing"), (Prefix("b/"), "x"), (ROOT, "a")):
            with pytest.raises(Unavailable):
                listing.lookup(parent, name)
        with pytest.raises(Unavailable):
            listing.children(A, stale_ok=True)  # not all of it was known


def test_in_an_outage_a_doubtful_absence_is_an_error() -> None:
    world = World(now_s=0)
    world.put("a/0")
    listing = world.listing()
    assert listing.lookup(A, "1") is None
    world.now_s += 10 * TTL_S
    assert world.now_s < 1_000_000 + SETTLE_S, "still live"
    with outage(world), pytest.raises(Unavailable):
        listing.lookup(A, "1")


def test_in_an_outage_nobody_removes_by_what_was_known_once() -> None:
    world = World()
    world.put("a/0")
    listing = world.listing()
    listing.children(A)
    assert listing.is_directory(A)
    world.now_s += 10 * TTL_S
    with outage(world):
        assert listing.is_directory(A, stale_ok=True)
        for strict in (
            lambda: listing.children(A),
            lambda: listing.is_directory(A),
            lambda: list(listing.walk(A)),
        ):
            with pytest.raises(Unavailable):
                strict()


def test_in_an_outage_our_own_changes_remain() -> None:
    world = World()
    world.put("a/0", "a/1")
    listing = world.listing()
    listing.children(A)
    world.memory.delete(Key("a/0"))
    listing.note_deleted(Key("a/0"))
    listing.note_put(world.put("a/2")[0])
    world.now_s += 10 * TTL_S
    with outage(world):
        assert [name for name, _ in listing.children(A, stale_ok=True)] == ["1", "2"]


# What the kernel must be told --------------------------------------------------------------


@pytest.mark.parametrize("flat", [False, True])
def test_what_another_client_changed_is_told_once_it_is_seen(*, flat: bool) -> None:
    world = World()
    world.put("a/same", "a/other", "a/gone")
    listing = world.listing()
    if flat:
        listing.flatten(A)
    listing.children(A)
    assert world.changes == []
    world.memory.put(Key("a/other"), b"other bytes")
    world.memory.delete(Key("a/gone"))
    world.put("a/new", "b/elsewhere")
    world.now_s += TTL_S
    listing.children(A)
    assert sorted(world.changes) == ["a/gone", "a/new", "a/other"]


def test_our_own_changes_are_told_only_where_the_kernel_does_not_know_them() -> None:
    world = World()
    world.put("a/0", "a/1")
    listing = world.listing()
    listing.children(A)
    listing.note_put(world.put("a/0")[0])
    world.memory.delete(Key("a/1"))
    listing.note_deleted(Key("a/1"))
    world.now_s += TTL_S * 0.6
    listing.children(A)
    assert world.changes == []
    listing.announce_put(world.put("a/2")[0])
    listing.announce_deleted(Key("a/0"))
    assert world.changes == ["a/2", "a/0"]


def test_no_lock_is_held_while_it_is_told() -> None:
    world = World()
    world.put("a/0")
    listing: Listing

    def changed(parent: Prefix, name: str) -> None:
        seen = threading.Thread(target=listing.snapshot)
        seen.start()
        seen.join(10)
        assert not seen.is_alive()
        world.changes.append(f"{parent}{name}")

    listing = Listing(
        world.store,
        ttl_s=TTL_S,
        settle_s=0,
        page_rows=10,
        max_keys=1000,
        changed=changed,
        clock=lambda: world.now_s,
    )
    listing.children(A)
    world.memory.delete(Key("a/0"))
    world.now_s += TTL_S
    listing.children(A)
    assert world.changes == ["a/0"]


# Opening a store ---------------------------------------------------------------------------

PROBES = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata")


@pytest.mark.parametrize(
    ("metadata", "coordinate"),
    [
        ((".zgroup", ".zattrs", ".zmetadata"), "0"),
        (("zarr.json",), "c/0"),
    ],
    ids=["v2", "v3"],
)
@pytest.mark.parametrize("live", [False, True])
def test_opening_a_store_takes_two_pages_and_one_for_each_coordinate(
    metadata: tuple[str, ...], coordinate: str, *, live: bool
) -> None:
    """The look-ups of facts/zarr-netcdf 1.1; with two GETs between they are four round trips."""
    world = World(now_s=0) if live else World()
    store = Prefix("data.zarr/")
    chunks = [f"{store}air/{coordinate[:-1]}{n}" for n in range(3000)]
    coordinates = [f"{store}{name}/{coordinate}" for name in ("lat", "time")]
    world.put(*(store + name for name in metadata), *chunks, *coordinates)
    listing = world.listing()
    assert listing.lookup(ROOT, "data.zarr") == store
    assert world.asked() == ["list_page"]
    found = [name for name in PROBES if listing.lookup(store, name) is not None]
    assert set(found) == set(metadata)
    assert world.asked() == ["list_page"]
    for name in ("lat", "time"):
        listing.flatten(Prefix(f"{store}{name}/"), objects=1)
    listing.flatten(Prefix(f"{store}air/"), objects=3000)
    for text in coordinates:
        key = Key(text)
        for here in key.parent.lineage():
            if here != store and here.startswith(store):
                assert listing.is_directory(here)
        assert isinstance(listing.lookup(key.parent, key.name), ObjectMeta)
    assert world.asked() == ["list_page"] * 2


def test_the_first_chunk_of_a_million_costs_one_page() -> None:
    world = World(page_rows=10)
    world.put("a/.zarray", *(f"a/{n}" for n in range(1000)))
    listing = world.listing()
    assert isinstance(listing.lookup(A, "500"), ObjectMeta)
    assert world.asked() == ["list_page"]
    assert isinstance(listing.lookup(A, ".zarray"), ObjectMeta)
    assert world.asked() == ["list_page"]
