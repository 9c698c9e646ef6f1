"""Indexes of shards against zarr-python's, and the grid of all inner chunks."""

import itertools
import math
import struct

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from tests.support.prefetching import objects_of
from zarrfuse.core.blocks import Block
from zarrfuse.core.zarr.metadata import ShardLayout, parse_array, shard_index_range
from zarrfuse.core.zarr.shards import PAGE_BYTES, InnerGrid, ShardIndex, joined, parse_index

ABSENT = 2**64 - 1


def index_of(*entries: tuple[int, int], size: int) -> ShardIndex:
    layout = ShardLayout((1,), len(entries), True, 16 * len(entries))
    data = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    index = parse_index(layout, data, size)
    assert index is not None
    return index


@pytest.mark.parametrize("location", ["start", "end"])
def test_an_index_names_the_bytes_of_each_inner_chunk(location: str) -> None:
    store = MemoryStore()
    array = zarr.create_array(
        store, shape=(4, 6), dtype="u1", chunks=(2, 2), compressors=None, fill_value=0,
        shards={"shape": (4, 6), "index_location": location},
    )  # fmt: skip
    values = np.arange(1, 25, dtype="u1").reshape(4, 6)
    values[2:, 2:4] = 0  # the inner chunk (1, 1) is absent
    array[:] = values
    objects = objects_of(store)
    shard, grid = objects["c/0/0"], parse_array("zarr.json", objects["zarr.json"])
    assert grid is not None and grid.sharding is not None
    span = shard_index_range(grid.sharding, len(shard))
    assert span is not None
    index = parse_index(grid.sharding, shard[slice(*span)], len(shard))
    assert index is not None
    inner = InnerGrid.of(grid, grid.sharding)
    assert inner == InnerGrid((2, 3), (2, 3))
    for at in np.ndindex(2, 3):
        part = index.range_of(inner.place(at)[1])
        expected = values[2 * at[0] : 2 * at[0] + 2, 2 * at[1] : 2 * at[1] + 2].tobytes()
        assert (shard[slice(*part)] if part else bytes(4)) == expected
    assert index.range_of(4) is None


@given(entries=st.lists(st.tuples(st.integers(0, ABSENT), st.integers(0, ABSENT)), min_size=1),
       size=st.integers(1, 10**6), at=st.integers(0, 10**6))  # fmt: skip
def test_any_index_gives_ranges_inside_of_the_object(
    entries: list[tuple[int, int]], size: int, at: int
) -> None:
    index = index_of(*entries, size=size)
    for number, (offset, length) in enumerate(entries):
        part = index.range_of(number)
        fits = length > 0 and offset != ABSENT and offset + length <= size
        assert part == (Block(offset, offset + length) if fits else None)
    wanted = index.wanted_by(at, at + PAGE_BYTES)
    assert wanted is None or index.range_of(wanted) is not None
    assert index.covered(0, size) <= len(entries)
    assert index.mean_bytes >= 1


def test_an_index_of_another_size_is_none() -> None:
    assert parse_index(ShardLayout((1,), 2, True, 36), bytes(35), 100) is None
    assert parse_index(ShardLayout((1,), 2, True, None), bytes(36), 100) is None


@given(sizes=st.lists(st.integers(PAGE_BYTES, 40_000), min_size=1, max_size=20), data=st.data())
def test_a_read_of_whole_pages_is_for_the_inner_chunk_in_them(
    sizes: list[int], data: st.DataObject
) -> None:
    stops = np.cumsum(sizes).tolist()
    entries = [(stop - size, size) for stop, size in zip(stops, sizes, strict=True)]
    index = index_of(*entries, size=stops[-1])
    number = data.draw(st.integers(0, len(sizes) - 1))
    offset, length = entries[number]
    first = offset // PAGE_BYTES * PAGE_BYTES
    last = -(-(offset + length) // PAGE_BYTES) * PAGE_BYTES
    wanted = index.wanted_by(first, last)
    # A neighbour may fill as much of the pages, where the chunk is hardly longer than one.
    assert wanted == number or length < 2 * PAGE_BYTES
    assert index.covered(first, last) >= 1


grids = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 30)), min_size=1, max_size=4)


@given(axes=grids, data=st.data())
def test_places_in_the_whole_grid_and_in_a_shard(
    axes: list[tuple[int, int]], data: st.DataObject
) -> None:
    grid = InnerGrid(tuple(n for _, n in axes), tuple(per for per, _ in axes))
    index = tuple(data.draw(st.integers(0, n - 1)) for n in grid.shape)
    shard, number = grid.place(index)
    assert 0 <= number < math.prod(grid.per_shard)
    assert grid.index(shard, number) == index
    assert shard == tuple(at // per for at, per in zip(index, grid.per_shard, strict=True))


@given(cuts=st.sets(st.integers(0, 1000), min_size=2), data=st.data(),
       gap=st.integers(0, 50), most=st.integers(1, 300))  # fmt: skip
def test_joined_ranges_hold_all_and_nothing_else(
    cuts: set[int], data: st.DataObject, gap: int, most: int
) -> None:
    edges = sorted(cuts)
    all_of_it = [Block(a, b) for a, b in itertools.pairwise(edges)]
    chosen = data.draw(st.lists(st.sampled_from(all_of_it), unique=True))
    parts = joined(chosen, gap_bytes=gap, max_bytes=most)
    assert all(sum(p.start <= c.start and c.stop <= p.stop for p in parts) == 1 for c in chosen)
    for part in parts:
        inside = sorted(c for c in chosen if part.start <= c.start < part.stop)
        assert (part.start, part.stop) == (inside[0].start, inside[-1].stop)
        assert len(inside) == 1 or part.size <= most
        assert all(b.start - a.stop <= gap for a, b in itertools.pairwise(inside))
