"""The prefetcher over a bucket in memory: what is fetched before it is asked for, and what not."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.support.prefetching import World
from zarrfuse.config import MIB, Cache, Prefetch
from zarrfuse.core.keys import Key, ObjectMeta, Prefix
from zarrfuse.errors import Unavailable
from zarrfuse.store import limit
from zarrfuse.store.faults import Fault

ZARRAY = {
    "zarr_format": 2, "shape": [100, 4, 4], "chunks": [1, 4, 4], "dtype": "<f4", "order": "C",
    "compressor": None, "filters": None, "fill_value": None, "dimension_separator": "/",
}  # fmt: skip


def store() -> dict[str, bytes]:
    """One array of 100 chunks and a coordinate."""
    metadata = {
        "v/.zarray": ZARRAY,
        "time/.zarray": {**ZARRAY, "shape": [100], "chunks": [100]},
    }
    consolidated = {"zarr_consolidated_format": 1, "metadata": metadata}
    return {
        ".zmetadata": json.dumps(consolidated).encode(),
        ".zgroup": b"{}",
        "time/0": b"t" * 400,
        **{f"v/{n}/0/0": f"{n:64}".encode() for n in range(100)},
    }


@pytest.fixture
def make() -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def maker(*args: Prefetch, **more: Cache) -> World:
        worlds.append(World(store(), *args, **more))
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


def v3(shape: list[int], chunks: list[int]) -> dict[str, object]:
    return {
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "int32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default"}, "codecs": [{"name": "bytes"}], "fill_value": 0,
    }  # fmt: skip


def plain_v3(world: World, coordinate_chunks: int) -> None:
    """Beside the first store, one of Zarr 3 without consolidated metadata."""
    world.put("p/zarr.json", json.dumps({"zarr_format": 3, "node_type": "group"}))
    world.put("p/v/zarr.json", json.dumps(v3([100, 4], [1, 4])))
    world.put("p/time/zarr.json", json.dumps(v3([100], [100 // coordinate_chunks])))
    for n in range(100):
        world.put(f"p/v/c/{n}/0", b"v" * 16)
    for n in range(coordinate_chunks):
        world.put(f"p/time/c/{n}", b"t" * 1000)


@pytest.mark.parametrize("chunks", [1, 20])
def test_coordinates_come_in_the_burst_without_consolidated_metadata_too(
    make: Callable[..., World], chunks: int
) -> None:
    world = make()
    plain_v3(world, chunks)
    world.read("p/zarr.json")
    world.settle()
    expected = {"p/zarr.json", "p/v/zarr.json", "p/time/zarr.json"}
    assert set(world.gets()) == expected | {f"p/time/c/{n}" for n in range(chunks)}


def test_a_burst_is_bounded_in_bytes(make: Callable[..., World]) -> None:
    world = make(Prefetch(burst_bytes=5000))
    plain_v3(world, 20)
    world.read("p/zarr.json")
    world.settle()
    coordinates = [name for name in world.gets() if name.startswith("p/time/c/")]
    assert 1 <= len(coordinates) <= 4
    world.read("p/time/zarr.json")
    world.settle()
    assert [name for name in world.gets() if name.startswith("p/time/c/")] == coordinates


class Finds:
    """The look-ups of a world's prefetcher, and whether programs come before each."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.background: list[bool] = []
        self._find = world.prefetcher._names.find
        names = replace(world.prefetcher._names, find=self)
        monkeypatch.setattr(world.prefetcher, "_names", names)

    def __call__(self, prefix: Prefix, name: str) -> ObjectMeta | Prefix | None:
        self.background.append(limit._background.get())
        return self._find(prefix, name)


def many_series(count: int) -> bytes:
    """Consolidated metadata of arrays of one dimension, 50 chunks each."""
    one = {**ZARRAY, "shape": [100], "chunks": [2]}
    metadata = {f"t{n}/.zarray": one for n in range(count)}
    return json.dumps({"zarr_consolidated_format": 1, "metadata": metadata}).encode()


@pytest.mark.parametrize(("burst_bytes", "most"), [(8 * MIB, 200), (100, 3)])
def test_a_burst_is_bounded_in_look_ups(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch, burst_bytes: int, most: int
) -> None:
    world = make(Prefetch(burst_bytes=burst_bytes))
    world.put(".zmetadata", many_series(100))
    for n in range(50):
        world.put(f"t0/{n}", b"t" * 40)
    finds = Finds(world, monkeypatch)
    world.read(".zmetadata")
    world.settle()
    assert len(finds.background) == most
    assert all(finds.background)


def test_a_burst_passes_over_what_no_burst_could_fetch(make: Callable[..., World]) -> None:
    world = make(Prefetch(burst_bytes=100))
    world.put(".zmetadata", many_series(1))
    for n in range(3):
        world.put(f"t0/{n}", b"t" * (40 if n else 101))
    world.read(".zmetadata")
    world.settle()
    assert set(world.gets()) == {".zmetadata", "t0/1", "t0/2"}


def test_a_burst_is_bounded_in_members(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make()
    world.put("p/zarr.json", json.dumps({"zarr_format": 3, "node_type": "group"}))
    for n in range(100):
        world.put(f"p/v{n:03}/zarr.json", json.dumps(v3([100, 4], [1, 4])))
    finds = Finds(world, monkeypatch)
    world.read("p/zarr.json")
    world.settle()
    members = [f"p/v{n:03}/zarr.json" for n in range(64)]
    assert set(world.gets()) == {"p/zarr.json", *members}
    assert all(finds.background)


def test_a_long_series_is_no_coordinate(make: Callable[..., World]) -> None:
    world = make()
    plain_v3(world, 100)
    world.read("p/zarr.json")
    world.settle()
    assert not [name for name in world.gets() if name.startswith("p/time/c/")]
