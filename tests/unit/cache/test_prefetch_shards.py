"""Sharded arrays through the prefetcher: zarr-python itself reads them, page by page."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore as ZarrMemory

from tests.support.prefetching import Kernel, World, objects_of
from zarrfuse.config import KIB, MIB, Cache

SHAPE, SHARD, INNER = (48, 160, 160), (16, 160, 160), (1, 40, 40)
#: Of inner chunks, uncompressed: 6.4 kB, of which a shard of 1.6 MB holds 256.
INNER_BYTES = 40 * 40 * 4
PIECE = 8 * KIB
VALUES = np.random.default_rng(7).integers(1, 10**6, SHAPE).astype("i4")

Reading = Callable[[Any], Any]


@cache
def sharded(location: str, shard: tuple[int, ...] = SHARD) -> dict[str, bytes]:
    store = ZarrMemory()
    array = zarr.create_array(
        store,
        shape=SHAPE,
        dtype="i4",
        chunks=INNER,
        shards={"shape": shard, "index_location": location},
        compressors=None,
        fill_value=0,
    )
    array[:] = VALUES
    return objects_of(store)


@pytest.fixture
def make() -> Iterator[Callable[..., Kernel]]:
    kernels: list[Kernel] = []

    def maker(objects: dict[str, bytes], **cache: int) -> Kernel:
        kernels.append(Kernel(World(objects, cache=Cache(**{"piece_bytes": PIECE} | cache))))
        return kernels[-1]

    yield maker
    for kernel in kernels:
        kernel.world.prefetcher.close()


def opened(kernel: Kernel) -> Any:
    return zarr.open_array(kernel, mode="r")


def rows(numbers: range) -> Reading:
    return lambda array: np.stack([array[t] for t in numbers])


READS: dict[str, tuple[Reading, int]] = {
    # what is read, and for how many requests the program may wait: inner chunks are 16 a row
    "rows": (rows(range(48)), 20),
    "rows reversed": (rows(range(47, -1, -1)), 20),
    "a series at a point": (lambda array: array[:, 50, 50], 26),
    "a loop at a point": (lambda array: np.stack([array[t, 50, 50] for t in range(48)]), 10),
    "a column of a map": (lambda array: np.stack([array[t, :, 3] for t in range(48)]), 20),
    "a box": (lambda array: array[4:44, 10:70, 50:110], 90),
}


@pytest.mark.parametrize("location", ["end", "start"])
@pytest.mark.parametrize("name", READS)
def test_inner_chunks_are_fetched_ahead_and_little_else(
    make: Callable[..., Kernel], name: str, location: str
) -> None:
    kernel = make(sharded(location))
    read, waits = READS[name]
    assert np.array_equal(read(opened(kernel)), read(VALUES))
    assert len(kernel.world.memory.waited) <= waits
    assert kernel.world.memory.bytes <= 1.2 * kernel.touched(PIECE)


@pytest.mark.parametrize("location", ["end", "start"])
def test_a_random_reader_fetches_what_it_reads(make: Callable[..., Kernel], location: str) -> None:
    kernel = make(sharded(location))
    array, rng = opened(kernel), random.Random(11)
    for _ in range(200):
        at = tuple(rng.randrange(count) for count in SHAPE)
        assert array[at] == VALUES[at]
    assert kernel.world.memory.bytes <= 1.2 * kernel.touched(PIECE)


def test_a_shard_that_is_read_whole_is_one_request(make: Callable[..., Kernel]) -> None:
    kernel = make(sharded("end"))
    assert np.array_equal(opened(kernel)[:], VALUES)
    assert sorted(kernel.world.gets()) == ["c/0/0/0", "c/1/0/0", "c/2/0/0", "zarr.json"]


def test_a_shard_of_which_parts_were_read_may_be_read_whole(make: Callable[..., Kernel]) -> None:
    kernel = make(sharded("end"))
    array = opened(kernel)
    assert array[0, 0, 0] == VALUES[0, 0, 0]
    assert np.array_equal(array[:], VALUES)
    assert kernel.world.memory.bytes <= 1.1 * VALUES.nbytes


def test_the_index_of_the_next_shard_is_there_before_it_is_asked_for(
    make: Callable[..., Kernel],
) -> None:
    kernel = make(sharded("end"))
    array = opened(kernel)
    for t in range(16):
        array[t, 50, 50]
    waited = len(kernel.world.memory.waited)
    for t in range(16, 48):
        assert array[t, 50, 50] == VALUES[t, 50, 50]
    assert len(kernel.world.memory.waited) == waited


def test_an_index_is_fetched_once(make: Callable[..., Kernel]) -> None:
    kernel = make(sharded("end"))
    for _ in range(2):
        opened(kernel)[3, 3, 3]
        kernel.forget()
    assert len(kernel.world.gets()) == 3, "the metadata, the index and one inner chunk"


def test_inner_chunks_that_were_never_written_cost_nothing(make: Callable[..., Kernel]) -> None:
    store = ZarrMemory()
    array = zarr.create_array(
        store, shape=SHAPE, dtype="i4", chunks=INNER, shards=SHARD, compressors=None, fill_value=5
    )
    array[:, :120] = VALUES[:, :120]
    kernel = make(objects_of(store))
    seen = opened(kernel)
    for t in range(48):
        assert (seen[t, 130:, :] == 5).all()
        assert np.array_equal(seen[t, :120, :40], VALUES[t, :120, :40])
    assert kernel.world.memory.bytes <= 1.2 * kernel.touched(PIECE)


def test_small_shards_are_fetched_whole_one_ahead_of_the_other(
    make: Callable[..., Kernel],
) -> None:
    kernel = make(sharded("end", (1, 160, 160)))
    array = opened(kernel)
    for t in range(48):
        assert array[t, 50, 50] == VALUES[t, 50, 50]
    assert len(kernel.world.memory.waited) <= 5
    assert len(kernel.world.gets()) == 49


@pytest.mark.parametrize("whole_bytes", [MIB, 16 * MIB])
def test_a_copied_shard_is_not_read_piece_by_piece(
    make: Callable[..., Kernel], whole_bytes: int
) -> None:
    """cp and cat ask for 128 KiB at a time, and for no index."""
    objects = sharded("end")
    kernel = make(objects, whole_bytes=whole_bytes)
    world = kernel.world
    world.read("zarr.json")
    for n in range(3):
        size = len(objects[f"c/{n}/0/0"])
        for at in range(0, size, 128 * KIB):
            part = world.read(f"c/{n}/0/0", at, min(at + 128 * KIB, size))
            assert part == objects[f"c/{n}/0/0"][at : at + 128 * KIB]
            world.settle()
    assert len(world.memory.waited) <= 1 + 3 * 6
    assert world.memory.bytes <= 1.3 * VALUES.nbytes
