"""Chunk shapes, by their properties."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from zarrfuse.convert.model import Plain, Variable
from zarrfuse.convert.plan import (
    MIB,
    Sizes,
    boxes,
    chunk_count,
    merge,
    plan_array,
    plan_store,
    split,
    tiles,
)

KIB = 1024
SIZES = Sizes()
shapes = st.lists(st.integers(1, 3000), min_size=1, max_size=4).map(tuple)
small_shapes = st.lists(st.integers(0, 9), min_size=0, max_size=3).map(tuple)
items = st.sampled_from([1, 2, 4, 8])


def variable(
    shape: tuple[int, ...],
    dtype: str = "<f4",
    chunks: tuple[int, ...] | None = None,
    name: str = "v",
) -> Variable:
    dimensions = tuple(f"/d{index}" for index in range(len(shape)))
    return Variable(name, Plain(dtype), dimensions, shape, chunks, ())


def size(chunks: tuple[int, ...], item: int) -> int:
    return math.prod(chunks) * item


@given(shapes, items, st.integers(8, 9 * MIB))
def test_split_never_exceeds_the_target_and_cuts_only_the_slowest(
    shape: tuple[int, ...], item: int, target: int
) -> None:
    chunks = split(shape, item, target)
    assert size(chunks, item) <= target
    cut = [axis for axis in range(len(shape)) if chunks[axis] < shape[axis]]
    # Every axis slower than the last one that is cut has become 1.
    assert all(chunks[axis] == 1 for axis in range(max(cut, default=0)))


@given(shapes, st.data())
def test_merge_multiplies_by_whole_factors_and_ends_in_the_wanted_range(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    chunks = tuple(data.draw(st.integers(1, min(length, 12))) for length in shape)
    merged = merge(shape, chunks, 4, 8 * MIB)
    assert all(big % small == 0 for big, small in zip(merged, chunks, strict=True))
    whole = chunk_count(shape, merged) == 1
    if size(chunks, 4) <= 4 * MIB:
        assert size(merged, 4) <= 8 * MIB
        assert whole or size(merged, 4) >= 4 * MIB


@given(st.integers(128 * KIB, 4 * MIB))
def test_hdf5_chunks_of_a_good_size_are_kept(values: int) -> None:
    assert plan_array(variable((40, values), chunks=(1, values))).chunks == (1, values)


def test_large_hdf5_chunks_are_cut_into_whole_parts_and_read_once() -> None:
    plan = plan_array(variable((365, 1000, 1000), chunks=(30, 1000, 1000)))
    assert plan.unit == (30, 1000, 1000)
    assert 30 % plan.chunks[0] == 0
    assert size(plan.chunks, 4) <= SIZES.keep_max


def test_a_coordinate_is_one_chunk() -> None:
    shape = (1_000_000,)
    coordinate = Variable("d0", Plain("<f8"), ("/d0",), shape, (512,), ())
    assert plan_array(coordinate).chunks == shape
    assert size(plan_array(variable((5_000_000,), "<f8", name="d0")).chunks, 8) <= SIZES.target


def test_scalars_and_empty_dimensions() -> None:
    assert plan_array(variable(())).chunks == ()
    assert chunk_count((), ()) == 1
    plan = plan_array(variable((0, 7)))
    assert plan.chunks == (1, 7)
    assert list(boxes((0, 7), plan, 4, MIB)) == []


def test_too_many_objects_make_larger_chunks() -> None:
    many = {"v": variable((5000, 1024, 1024), "<f4", (1, 256, 512))}
    assert chunk_count((5000, 1024, 1024), plan_array(many["v"]).chunks) == 40_000
    plans = plan_store(many, Sizes(max_objects=10_000))
    assert chunk_count((5000, 1024, 1024), plans["v"].chunks) <= 10_000


@given(small_shapes, st.data(), st.integers(1, 400))
def test_boxes_cover_every_value_once_in_whole_chunks(
    shape: tuple[int, ...], data: st.DataObject, budget: int
) -> None:
    native = tuple(data.draw(st.integers(1, 4)) for _ in shape)
    plan = plan_array(
        variable(shape, "<i4", native), Sizes(keep_min=8, keep_max=32, target=16, box=budget)
    )
    seen: Counter[tuple[int, ...]] = Counter()
    keys: list[tuple[int, ...]] = []
    for box in boxes(shape, plan, 4, budget):
        spans = [(part.start, part.stop) for part in box]
        for tile in tiles(spans, plan.chunks):
            assert all(p.start % c == 0 for p, c in zip(tile, plan.chunks, strict=True))
            ends = zip(tile, plan.chunks, shape, strict=True)
            assert all(p.stop == min(p.start + c, n) for p, c, n in ends)
            keys.append(tuple(p.start for p in tile))
            seen.update(_points(tile))
    assert len(keys) == len(set(keys)) == chunk_count(shape, plan.chunks)
    assert set(seen.values()) <= {1}
    assert len(seen) == math.prod(shape)


def _points(tile: tuple[slice, ...]) -> list[tuple[int, ...]]:
    points: list[tuple[int, ...]] = [()]
    for part in tile:
        points = [(*point, i) for point in points for i in range(part.start, part.stop)]
    return points
