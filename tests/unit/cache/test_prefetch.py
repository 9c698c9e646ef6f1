"""The prefetcher over a bucket in memory: what is fetched before it is asked for, and what not."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.mounts import wait_until
from zarrfuse.cache.memory import MemoryBlocks
from zarrfuse.cache.prefetch import Names, Prefetcher, PrefetchingReader
from zarrfuse.cache.reader import CachingReader
from zarrfuse.cache.tiers import NoDisk
from zarrfuse.config import MIB, Cache, Prefetch
from zarrfuse.core.keys import Key, ObjectMeta
from zarrfuse.errors import Unavailable
from zarrfuse.listing.listing import Listing
from zarrfuse.store.faults import Fault, FaultyStore
from zarrfuse.store.memory import MemoryStore

ZARRAY = {
    "zarr_format": 2, "shape": [100, 4, 4], "chunks": [1, 4, 4], "dtype": "<f4", "order": "C",
    "compressor": None, "filters": None, "fill_value": None, "dimension_separator": "/",
}  # fmt: skip


class World:
    """A store with one array of 100 chunks and a coordinate, and a watched reader of it."""

    def __init__(self, config: Prefetch | None = None, cache: Cache | None = None) -> None:
        self.memory = MemoryStore(clock=lambda: 1_000_000.0)
        self.store = FaultyStore(self.memory)
        cache = cache or Cache()
        metadata = {
            "v/.zarray": ZARRAY,
            "time/.zarray": {**ZARRAY, "shape": [100], "chunks": [100]},
        }
        self.put(".zmetadata", json.dumps({"zarr_consolidated_format": 1, "metadata": metadata}))
        self.put(".zgroup", "{}")
        self.put("time/0", "t" * 400)
        for n in range(100):
            self.put(f"v/{n}/0/0", f"{n:64}")
        self.listing = Listing(self.store, ttl_s=600, settle_s=0, page_rows=1000)
        inner = CachingReader(self.store, NoDisk(), MemoryBlocks(64 * MIB), cache, bucket="b")
        names = Names(
            self.listing.listed,
            self.listing.children,
            lambda prefix, objects: self.listing.flatten(prefix, objects=objects),
        )
        self.prefetcher = Prefetcher(
            inner, names, config or Prefetch(), whole_bytes=int(cache.whole_bytes)
        )
        self.reader = PrefetchingReader(inner, self.prefetcher)

    def put(self, name: str, text: str) -> None:
        self.memory.put(Key(f"s.zarr/{name}"), text.encode())

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        key = Key(f"s.zarr/{name}")
        meta = self.listing.lookup(key.parent, key.name)
        assert isinstance(meta, ObjectMeta)
        return self.reader.read(meta, start, meta.size if stop is None else stop)

    def gets(self) -> list[str]:
        return [c.key.removeprefix("s.zarr/") for c in self.store.calls if c.verb == "get"]

    def settle(self) -> None:
        """Waits until nothing is on its way."""
        wait_until(lambda: self.prefetcher.waiting() == 0, "the prefetcher to be idle")


@pytest.fixture
def make() -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def maker(*args: Prefetch, **more: Cache) -> World:
        worlds.append(World(*args, **more))
        return worlds[-1]

    yield maker
    for world in worlds:
        world.prefetcher.close()


def test_a_reader_that_goes_on_finds_its_chunks_fetched(make: Callable[..., World]) -> None:
    world = make()
    world.read(".zmetadata")
    for n in range(100):
        assert world.read(f"v/{n}/0/0") == f"{n:64}".encode()
        world.settle()
    counts = world.prefetcher.snapshot()
    assert counts["prefetch_useful"] >= 95
    assert sorted(world.gets()) == sorted(set(world.gets())), "each object was fetched once"


@pytest.mark.parametrize("reverse", [False, True])
def test_listing_an_array_of_a_hundred_directories_costs_few_requests(
    make: Callable[..., World], reverse: bool
) -> None:
    world = make()
    world.read(".zmetadata")
    world.settle()
    world.store.calls.clear()
    for n in sorted(range(100), reverse=reverse):
        world.read(f"v/{n}/0/0")
    assert sum(1 for call in world.store.calls if call.verb == "list_page") <= 2


def test_coordinates_are_fetched_when_the_store_is_opened(make: Callable[..., World]) -> None:
    world = make()
    world.read(".zmetadata")
    world.settle()
    assert set(world.gets()) == {".zmetadata", "time/0"}


def test_chunks_that_are_read_without_their_metadata_are_fetched_ahead_too(
    make: Callable[..., World],
) -> None:
    """cp -r and cat know nothing of Zarr."""
    world = make()
    world.put("v/.zarray", json.dumps(ZARRAY))
    for n in range(100):
        assert world.read(f"v/{n}/0/0") == f"{n:64}".encode()
        world.settle()
    assert world.prefetcher.snapshot()["prefetch_useful"] >= 90
    assert sum(1 for call in world.store.calls if call.verb == "list_page") <= 12


def test_numbered_files_that_are_no_chunks_cost_few_requests(make: Callable[..., World]) -> None:
    world = make()
    for n in range(50):
        world.memory.put(Key(f"runs/{n}"), b"plain")
    for n in range(50):
        key = Key(f"runs/{n}")
        meta = world.listing.lookup(key.parent, key.name)
        assert isinstance(meta, ObjectMeta)
        assert world.reader.read(meta, 0, meta.size) == b"plain"
        world.settle()
    assert len(world.gets()) == 50
    assert sum(1 for call in world.store.calls if call.verb == "list_page") <= 4


def test_a_random_reader_pays_for_few_guesses(make: Callable[..., World]) -> None:
    world = make()
    world.read(".zmetadata")
    chosen = random.Random(3).sample(range(100), 60)
    for n in chosen:
        world.read(f"v/{n}/0/0")
        world.settle()
    fetched = {name for name in world.gets() if name.startswith("v/")}
    wasted = fetched - {f"v/{n}/0/0" for n in chosen}
    assert len(wasted) <= 0.2 * len(chosen) + 16


def test_metadata_of_a_store_that_is_not_consolidated_comes_in_one_burst(
    make: Callable[..., World],
) -> None:
    world = make()
    world.memory.delete(Key("s.zarr/.zmetadata"))
    for name in ("v", "time"):
        world.put(f"{name}/.zarray", json.dumps(ZARRAY))
        world.put(f"{name}/.zattrs", "{}")
    world.read(".zgroup")
    world.settle()
    assert {"v/.zarray", "v/.zattrs", "time/.zarray", "time/.zattrs"} <= set(world.gets())


def test_a_large_file_is_fetched_ahead_when_it_is_read_on(make: Callable[..., World]) -> None:
    world = make(Prefetch(), cache=Cache(whole_bytes=MIB, block_bytes=MIB))
    data = bytes(random.Random(1).randbytes(20 * MIB))
    world.memory.put(Key("s.zarr/large.nc"), data)
    assert world.read("large.nc", 0, 4096) == data[:4096]
    world.settle()
    assert len(world.gets()) == 1, "a first read drags nothing along"
    for start in range(4096, 10 * MIB, 512 * 1024):
        assert world.read("large.nc", start, start + 512 * 1024) == data[start:][: 512 * 1024]
        world.settle()
    world.store.calls.clear()
    assert world.read("large.nc", 11 * MIB, 12 * MIB) == data[11 * MIB : 12 * MIB]
    assert world.gets() == [], "it had been fetched"


def test_what_is_in_flight_is_bounded(make: Callable[..., World]) -> None:
    world = make(Prefetch(bytes=64 * 3))
    world.read(".zmetadata")
    world.settle()
    most, lock, now = 0, threading.Lock(), 0
    plain = world.memory.get

    def counted(key: Key, **how: object) -> object:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        try:
            return plain(key, **how)  # type: ignore[arg-type]
        finally:
            with lock:
                now -= 1

    world.memory.get = counted  # type: ignore[assignment,method-assign]
    for n in range(50):
        world.read(f"v/{n}/0/0")
    world.settle()
    assert most <= 3 + 1, "three on their way ahead, and the reader's own"


def test_a_prefetch_that_fails_is_nobodys_error(make: Callable[..., World]) -> None:
    world = make()
    world.read(".zmetadata")
    world.settle()
    for n in range(3):
        world.read(f"v/{n}/0/0")
        world.settle()
    gets = len(world.gets())
    world.store.plan.append(Fault(gets + 2, Unavailable("down"), verb="get"))
    for n in range(3, 60):
        assert world.read(f"v/{n}/0/0") == f"{n:64}".encode()
        world.settle()
    assert world.prefetcher.snapshot()["prefetch_failed"] == 1


def test_a_defect_in_guessing_keeps_no_program_from_its_bytes(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make()
    world.read(".zmetadata")

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("zarrfuse.cache.prefetch.observe", broken)
    assert world.read("v/3/0/0") == f"{3:64}".encode()


def test_a_changed_array_is_learned_anew(make: Callable[..., World]) -> None:
    """After an append: chunks beyond the old shape are part of the grid."""
    world = make()
    world.read(".zmetadata")
    world.put("v/.zarray", json.dumps({**ZARRAY, "shape": [200, 4, 4]}))
    for n in range(100, 160):
        world.put(f"v/{n}/0/0", f"{n:64}")
    world.read("v/.zarray")
    for n in range(100, 160):
        assert world.read(f"v/{n}/0/0") == f"{n:64}".encode()
        world.settle()
    assert world.prefetcher.snapshot()["prefetch_useful"] >= 50
