"""Programs' orders of reading on the keys as they really are: prefetched, each chunk once."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.prefetching import World
from tests.support.readers import (
    blocks_reversed,
    dask_order,
    groups_of_four,
    interleaved,
    row_major,
)
from zarrfuse.core.zarr.keys import key_of
from zarrfuse.core.zarr.metadata import parse_array

Index = tuple[int, ...]

SHAPE = (20, 4, 4)
V2 = {
    "zarr_format": 2, "shape": SHAPE, "chunks": [1, 1, 1], "dtype": "<i4", "order": "C",
    "compressor": None, "filters": None, "fill_value": None,
}  # fmt: skip
V3 = {
    "zarr_format": 3, "node_type": "array", "shape": SHAPE, "data_type": "int32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 1, 1]}},
    "codecs": [{"name": "bytes"}], "fill_value": 0,
}  # fmt: skip


def _encoding(name: str, separator: str) -> dict[str, Any]:
    return {"name": name, "configuration": {"separator": separator}}


FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "v2 .": (".zarray", V2),
    "v2 /": (".zarray", {**V2, "dimension_separator": "/"}),
    "v3 /": ("zarr.json", {**V3, "chunk_key_encoding": _encoding("default", "/")}),
    "v3 .": ("zarr.json", {**V3, "chunk_key_encoding": _encoding("default", ".")}),
    "v3 as v2": ("zarr.json", {**V3, "chunk_key_encoding": _encoding("v2", ".")}),
}
ORDERS: dict[str, list[Index]] = {
    "row-major": row_major(SHAPE),
    "dask": dask_order(row_major(SHAPE)),
    "map": [(3, *rest) for rest in row_major(SHAPE[1:])],
    "series": [(t, 2, 1) for t in range(20)],
    "series of dask": dask_order((t, 2, 1) for t in range(20)),
    "groups of four": groups_of_four(SHAPE),
    "blocks": blocks_reversed(SHAPE, (5, 4, 4)),
    "two readers": interleaved(
        [(t, *rest) for t in range(10) for rest in row_major(SHAPE[1:])],
        [(t, 3, 3) for t in range(19, 9, -1)],
    ),
}


class Array:
    """One array in a world of its own."""

    def __init__(self, form: str) -> None:
        name, document = FORMS[form]
        text = json.dumps(document).encode()
        grid = parse_array(name, text)
        assert grid is not None
        self.keys = {index: f"v/{key_of(grid, index)}" for index in row_major(SHAPE)}
        chunks = {key: key.encode() for key in self.keys.values()}
        self.world = World({f"v/{name}": text, **chunks})
        self.world.read(f"v/{name}")

    def read(self, index: Index) -> None:
        assert self.world.read(self.keys[index]) == self.keys[index].encode()
        self.world.settle()


@pytest.fixture
def make() -> Iterator[Callable[[str], Array]]:
    arrays: list[Array] = []

    def maker(form: str) -> Array:
        arrays.append(Array(form))
        return arrays[-1]

    yield maker
    for array in arrays:
        array.world.prefetcher.close()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("form", FORMS)
def test_each_order_is_prefetched_on_each_form_of_keys(
    make: Callable[[str], Array], form: str, order: str
) -> None:
    array = make(form)
    reads = ORDERS[order]
    for index in reads:
        array.read(index)
    memory = array.world.memory
    assert len(memory.waited) - 1 <= 6 + 0.15 * len(set(reads))
    assert len(array.world.gets()) == len(set(array.world.gets())), "each object once"


@pytest.mark.parametrize("form", FORMS)
def test_a_random_reader_fetches_at_most_a_fifth_more(
    make: Callable[[str], Array], form: str
) -> None:
    array, rng = make(form), random.Random(5)
    for index in rng.sample(row_major(SHAPE), 200):
        array.read(index)
    assert len(array.world.gets()) - 1 <= 1.2 * 200
