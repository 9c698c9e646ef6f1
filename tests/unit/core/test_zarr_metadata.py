"""Array metadata to chunk grids: zarr-python writes it, and hypothesis damages it."""

import asyncio
import json
import warnings
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from zarrfuse.core.zarr.metadata import (
    MAX_ARRAYS,
    MAX_DOCUMENT_BYTES,
    ArrayGrid,
    ChunkEncoding,
    ShardLayout,
    parse_array,
    parse_consolidated,
    shard_index_range,
)

V2: dict[str, Any] = {
    "zarr_format": 2,
    "shape": [40, 16, 24],
    "chunks": [2, 5, 24],
    "dtype": "<f4",
    "order": "C",
    "fill_value": None,
    "filters": None,
    "compressor": None,
}
SHARDING: dict[str, Any] = {
    "name": "sharding_indexed",
    "configuration": {
        "chunk_shape": [1, 5, 6],
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "index_codecs": [{"name": "bytes"}, {"name": "crc32c"}],
        "index_location": "end",
    },
}
V3: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [40, 16, 24],
    "data_type": "int16",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 5, 24]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "codecs": [SHARDING],
    "fill_value": 0,
}


def grid_v2(**changes: object) -> ArrayGrid | None:
    return parse_array(".zarray", json.dumps(V2 | changes).encode())


def grid_v3(**changes: object) -> ArrayGrid | None:
    return parse_array("zarr.json", json.dumps(V3 | changes).encode())


def sharded(**changes: object) -> dict[str, Any]:
    return SHARDING | {"configuration": SHARDING["configuration"] | changes}


def test_v2() -> None:
    grid = grid_v2()
    assert grid == ArrayGrid((40, 16, 24), (2, 5, 24), ChunkEncoding(".", "", 2))
    assert grid.grid_shape == (20, 4, 1)
    assert grid.count == 80


def test_v3_sharded() -> None:
    grid = grid_v3()
    assert grid is not None
    assert grid.encoding == ChunkEncoding("/", "c", 3)
    assert grid.grid_shape == (20, 4, 1)
    assert grid.sharding == ShardLayout((1, 5, 6), 8, True, 132)
    assert shard_index_range(grid.sharding, 1000) == (868, 1000)


@pytest.mark.parametrize(
    ("changes", "layout"),
    [
        ({"index_location": "start"}, ShardLayout((1, 5, 6), 8, False, 132)),
        ({"index_codecs": [{"name": "bytes"}]}, ShardLayout((1, 5, 6), 8, True, 128)),
        ({"index_codecs": ["bytes", "crc32c"]}, ShardLayout((1, 5, 6), 8, True, 132)),
        ({"index_codecs": ["bytes", "gzip"]}, ShardLayout((1, 5, 6), 8, True, None)),
        (
            {"index_codecs": [{"name": "bytes", "configuration": {"endian": "big"}}]},
            ShardLayout((1, 5, 6), 8, True, None),
        ),
    ],
)
def test_shard_layouts(changes: dict[str, object], layout: ShardLayout) -> None:
    grid = grid_v3(codecs=[sharded(**changes)])
    assert grid is not None and grid.sharding == layout


def test_shard_index_range() -> None:
    layout = ShardLayout((1,), 8, False, 132)
    assert shard_index_range(layout, 132) == (0, 132)
    assert shard_index_range(layout, 131) is None
    assert shard_index_range(ShardLayout((1,), 8, True, None), 1000) is None


def test_a_shard_that_is_compressed_again_has_no_index_to_read() -> None:
    grid = grid_v3(codecs=[SHARDING, {"name": "gzip"}])
    assert grid is not None and grid.sharding is None


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ({"name": "default"}, ChunkEncoding("/", "c", 3)),
        ("default", ChunkEncoding("/", "c", 3)),
        ({"name": "default", "configuration": {"separator": "."}}, ChunkEncoding(".", "c", 3)),
        ({"name": "v2"}, ChunkEncoding(".", "", 3)),
        ({"name": "v2", "configuration": {"separator": "/"}}, ChunkEncoding("/", "", 3)),
    ],
)
def test_chunk_key_encodings(encoding: object, expected: ChunkEncoding) -> None:
    grid = grid_v3(chunk_key_encoding=encoding)
    assert grid is not None and grid.encoding == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"zarr_format": 3},
        {"shape": [40, 16]},
        {"shape": [40, -16, 24]},
        {"shape": [40, True, 24]},
        {"shape": [40, 1.5, 24]},
        {"shape": [2**63, 1, 1]},
        {"shape": "40"},
        {"shape": [1] * 65, "chunks": [1] * 65},
        {"chunks": [2, 0, 24]},
        {"chunks": None},
        {"dimension_separator": "-"},
        {"dimension_separator": ["/"]},
    ],
)
def test_v2_malformed(changes: dict[str, object]) -> None:
    assert grid_v2(**changes) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"node_type": "group"},
        {"zarr_format": 2},
        {"chunk_grid": {"name": "rectilinear", "configuration": {"chunk_shapes": [[2, 3]]}}},
        {"chunk_grid": {"name": "regular"}},
        {"chunk_grid": None},
        {"chunk_key_encoding": {"name": "fanout"}},
        {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "_"}}},
        {"chunk_key_encoding": {"name": ["default"]}},
        {"storage_transformers": [{"name": "x"}]},
        {"codecs": []},
        {"codecs": [sharded(chunk_shape=[1, 5, 7])]},
        {"codecs": [sharded(chunk_shape=[0, 5, 6])]},
        {"codecs": [sharded(chunk_shape=[1, 5])]},
        {"codecs": [sharded(index_location="middle")]},
    ],
)
def test_v3_malformed(changes: dict[str, object]) -> None:
    assert grid_v3(**changes) is None


def test_names_of_other_objects() -> None:
    assert parse_array(".zgroup", json.dumps(V2).encode()) is None
    assert parse_array("zarr.json", json.dumps(V2).encode()) is None


def test_empty_and_scalar_arrays() -> None:
    scalar, empty = grid_v2(shape=[], chunks=[]), grid_v2(shape=[0, 5], chunks=[0, 5])
    assert scalar is not None and (scalar.grid_shape, scalar.count) == ((), 1)
    assert empty is not None and (empty.grid_shape, empty.count) == ((0, 1), 0)


def stored(store: MemoryStore, key: str) -> bytes:
    buffer = asyncio.run(store.get(key, zarr.core.buffer.default_buffer_prototype()))
    assert buffer is not None
    return buffer.to_bytes()


@pytest.mark.parametrize("version", [2, 3])
def test_consolidated_by_zarr_python(version: int) -> None:
    store = MemoryStore()
    root = zarr.open_group(store, mode="w", zarr_format=version)
    root.create_array("sst", shape=(8, 16), chunks=(2, 5), dtype="f4")
    root.create_array("g/deep/time", shape=(8,), chunks=(8,), dtype="i8")
    root.create_array("scalar", shape=(), dtype="f8")
    if version == 3:
        root.create_array("sharded", shape=(8, 16), chunks=(2, 4), shards=(4, 16), dtype="f4")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr-python: not part of the v3 specification yet
        zarr.consolidate_metadata(store)
    found = parse_consolidated(stored(store, ".zmetadata" if version == 2 else "zarr.json"))
    assert {"sst", "g/deep/time", "scalar"} <= set(found)
    assert found["sst"].grid_shape == (4, 4)
    for path, grid in found.items():
        name = ".zarray" if version == 2 else "zarr.json"
        assert parse_array(name, stored(store, f"{path}/{name}")) == grid
        assert grid.shape == root[path].shape
    if version == 3:
        layout = found["sharded"].sharding
        assert layout == ShardLayout((2, 4), 8, True, 132)
        assert found["sharded"].grid_shape == (2, 1)


def test_the_index_lies_where_zarr_python_puts_it() -> None:
    store = MemoryStore()
    array = zarr.create_array(store, shape=(8,), chunks=(2,), shards=(8,), dtype="u1")
    array[:] = np.arange(1, 9, dtype="u1")
    grid = parse_array("zarr.json", stored(store, "zarr.json"))
    shard = stored(store, "c/0")
    assert grid is not None and grid.sharding is not None
    start_stop = shard_index_range(grid.sharding, len(shard))
    assert start_stop is not None
    offsets = np.frombuffer(shard[slice(*start_stop)][:-4], "<u8").reshape(-1, 2)
    assert len(offsets) == grid.sharding.count
    assert sum(offsets[:, 1]) + (start_stop[1] - start_stop[0]) == len(shard)


def test_consolidated_leaves_out_what_it_cannot_use() -> None:
    metadata = {"a/.zarray": V2, "a/.zattrs": {}, "b/.zarray": {"shape": 1}, "../c/.zarray": V2,
                "/d/.zarray": V2, "\ud800/.zarray": V2, ".zarray": V2}  # fmt: skip
    document = json.dumps({"zarr_consolidated_format": 1, "metadata": metadata}).encode()
    assert set(parse_consolidated(document)) == {"a", ""}
    assert parse_consolidated(b"[]") == {}
    assert parse_consolidated(b'{"zarr_consolidated_format": 1, "metadata": 3}') == {}
    assert parse_consolidated(b'{"zarr_format": 3, "consolidated_metadata": null}') == {}


def test_limits() -> None:
    assert parse_array(".zarray", b" " * MAX_DOCUMENT_BYTES + json.dumps(V2).encode()) is None
    assert parse_array(".zarray", b"[" * 1_000_000) is None
    assert parse_array(".zarray", b'{"shape":[' + b"9" * 10_000 + b"]}") is None
    small = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|u1"}
    metadata = {f"a{number}/.zarray": small for number in range(MAX_ARRAYS + 10)}
    document = json.dumps({"zarr_consolidated_format": 1, "metadata": metadata}).encode()
    assert len(parse_consolidated(document)) == MAX_ARRAYS


WORDS = st.text(max_size=8) | st.sampled_from(["name", "configuration"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["regular", "default", "v2", "sharding_indexed", "bytes", "<f4", "/", "."]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def places(node: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    children: Any = ()
    if isinstance(node, (dict, list)):
        children = node.items() if isinstance(node, dict) else enumerate(node)
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


def replaced(node: Any, path: tuple[str | int, ...], value: object) -> Any:
    if not path:
        return value
    copy = node.copy()
    copy[path[0]] = replaced(node[path[0]], path[1:], value)
    return copy


@pytest.mark.parametrize(("name", "node"), [(".zarray", V2), ("zarr.json", V3)])
@given(data=st.data())
def test_no_document_raises(name: str, node: dict[str, Any], data: st.DataObject) -> None:
    """A valid document with any one part replaced by anything, alone and consolidated."""
    damaged = replaced(node, data.draw(st.sampled_from(places(node))), data.draw(JSON))
    grid = parse_array(name, json.dumps(damaged).encode())
    if grid is not None:
        assert len(grid.grid_shape) == len(grid.shape) and grid.count >= 0
    wrapped: dict[str, Any] = {"zarr_consolidated_format": 1, "metadata": {"a/.zarray": damaged}}
    if name == "zarr.json":
        inline = {"kind": "inline", "metadata": {"a": damaged}}
        wrapped = {"zarr_format": 3, "consolidated_metadata": inline}
    assert parse_consolidated(json.dumps(wrapped).encode()) == ({} if grid is None else {"a": grid})


@given(st.binary(max_size=200), st.sampled_from([".zarray", "zarr.json", ".zmetadata", ""]))
def test_no_bytes_raise(document: bytes, name: str) -> None:
    assert parse_array(name, document) is None
    assert parse_consolidated(document) == {}
