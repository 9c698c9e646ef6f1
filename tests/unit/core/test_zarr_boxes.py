"""Boxes of a chunk grid, however long the axes are that metadata speaks of."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from zarrfuse.core.zarr.boxes import box_of
from zarrfuse.core.zarr.metadata import ArrayGrid, ChunkEncoding

DOTS = ChunkEncoding(".", "", 2)


@given(st.integers(0, 10**5), st.integers(0, 3000))
def test_an_axis_is_walked_as_text(start: int, length: int) -> None:
    box = box_of(ArrayGrid((start + length,), (1,), DOTS), [(start, start + length)])
    assert list(box.in_key_order()) == sorted(map(str, range(start, start + length)))


def test_the_first_keys_of_a_long_axis_cost_no_list_of_it() -> None:
    grid = ArrayGrid((10**12, 10**12), (1, 1), DOTS)
    keys = box_of(grid, [(5, 10**12), (0, 10**12)]).in_key_order()
    assert list(itertools.islice(keys, 3)) == ["10.0", "10.1", "10.10"]


def test_beside_an_empty_axis_there_is_nothing() -> None:
    grid = ArrayGrid((10**12, 4), (1, 1), DOTS)
    assert list(box_of(grid, [(0, 10**12), (2, 2)]).in_key_order()) == []


def test_a_scalar_has_one_chunk() -> None:
    assert len(list(box_of(ArrayGrid((), (), DOTS), []).in_key_order())) == 1
