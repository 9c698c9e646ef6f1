"""Chunk keys, against zarr-python's own encoders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zarr.core.chunk_key_encodings import DefaultChunkKeyEncoding, V2ChunkKeyEncoding

from zarrfuse.core.zarr.keys import index_of, key_of
from zarrfuse.core.zarr.metadata import ArrayGrid, ChunkEncoding

V2_ORACLES = [
    (ChunkEncoding(".", "", 2), V2ChunkKeyEncoding(".")),
    (ChunkEncoding("/", "", 2), V2ChunkKeyEncoding("/")),
    (ChunkEncoding(".", "", 3), V2ChunkKeyEncoding(".")),
]
V3_ORACLES = [
    (ChunkEncoding("/", "c", 3), DefaultChunkKeyEncoding(separator="/")),
    (ChunkEncoding(".", "c", 3), DefaultChunkKeyEncoding(separator=".")),
]
ORACLES = V2_ORACLES + V3_ORACLES


def grid_of(counts: tuple[int, ...], encoding: ChunkEncoding) -> ArrayGrid:
    return ArrayGrid(tuple(3 * count for count in counts), (3,) * len(counts), encoding)


@st.composite
def grids_and_indices(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    counts = draw(st.lists(st.integers(1, 10**12), max_size=5))
    return tuple(counts), tuple(draw(st.integers(0, count - 1)) for count in counts)


@pytest.mark.parametrize(("encoding", "oracle"), ORACLES)
@given(case=grids_and_indices())
def test_keys_are_zarrs(
    encoding: ChunkEncoding,
    oracle: V2ChunkKeyEncoding | DefaultChunkKeyEncoding,
    case: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    counts, index = case
    grid = grid_of(counts, encoding)
    key = key_of(grid, index)
    assert key == oracle.encode_chunk_key(index)
    assert index_of(grid, key) == index


@pytest.mark.parametrize("encoding", [encoding for encoding, _ in ORACLES])
@given(text=st.text(alphabet="0123456789c./-+ ٣²_", max_size=10))
def test_only_a_key_that_would_be_written_is_one(encoding: ChunkEncoding, text: str) -> None:
    grid = grid_of((20, 3), encoding)
    index = index_of(grid, text)
    assert index is None or key_of(grid, index) == text


@pytest.mark.parametrize(
    "text",
    ["", "c", "c/", "c/1", "c/1/2/3", "c/20/0", "c/0/3", "c/01/0", "c/-1/0", "c/+1/0", "c/1 /0",
     "d/1/1", "1/1", "c.1.1", "C/1/1", "c/1/1/", "/c/1/1", "c//1", "c/٣/1", "zarr.json",
     "c/" + "9" * 5000 + "/1"],
)  # fmt: skip
def test_no_chunk_keys(text: str) -> None:
    assert index_of(grid_of((20, 3), ChunkEncoding("/", "c", 3)), text) is None


def test_a_scalar_has_one_key() -> None:
    assert key_of(grid_of((), ChunkEncoding(".", "", 2)), ()) == "0"
    assert key_of(grid_of((), ChunkEncoding("/", "c", 3)), ()) == "c"
    assert index_of(grid_of((), ChunkEncoding(".", "", 3)), "0") == ()
    assert index_of(grid_of((), ChunkEncoding("/", "c", 3)), "c") == ()
    assert index_of(grid_of((), ChunkEncoding("/", "c", 3)), "0") is None


def test_an_empty_array_has_none() -> None:
    assert index_of(grid_of((0, 3), ChunkEncoding(".", "", 2)), "0.0") is None
