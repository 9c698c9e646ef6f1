"""What is planned for readers in the orders that programs were seen to use, and for random ones."""

import random
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from tests.support.readers import (
    blocks_reversed,
    dask_order,
    follow,
    groups_of_four,
    in_flight,
    interleaved,
    row_major,
)
from zarrfuse.core.access import CREDIT, MAX_STREAMS, RECENT, Plan, Readers, observe
from zarrfuse.core.zarr.keys import index_of
from zarrfuse.core.zarr.metadata import parse_array

Index = tuple[int, ...]

GRIDS = [(20, 4, 4), (400, 1, 1), (365, 10, 20), (1, 3, 1000)]
FLIGHTS = [1, 2, 6]


def line(shape: Index) -> list[Index]:
    """Along the longest axis, at a point in the middle of the others."""
    longest = max(range(len(shape)), key=lambda axis: shape[axis])
    middle = [count // 2 for count in shape]
    return [(*middle[:longest], at, *middle[longest + 1 :]) for at in range(shape[longest])]


@pytest.mark.parametrize("flight", FLIGHTS)
@pytest.mark.parametrize("shape", GRIDS)
@pytest.mark.parametrize("order", ["row-major", "reversed", "dask", "text"])
def test_whole_arrays(shape: Index, order: str, flight: int) -> None:
    orders = {
        "row-major": row_major(shape),
        "reversed": row_major(shape)[::-1],
        "dask": dask_order(row_major(shape)),
        "text": dask_order(row_major(shape))[::-1],
    }
    assert follow(in_flight(orders[order][:1200], flight), shape).hits >= 0.95


@pytest.mark.parametrize("flight", FLIGHTS)
@pytest.mark.parametrize("shape", GRIDS)
@pytest.mark.parametrize("order", ["up", "down", "dask"])
def test_a_series_at_a_point(shape: Index, order: str, flight: int) -> None:
    points = line(shape)
    reads = {"up": points, "down": points[::-1], "dask": dask_order(points)}[order]
    assert follow(in_flight(reads, flight), shape).hits >= 0.9


@pytest.mark.parametrize("flight", FLIGHTS)
@pytest.mark.parametrize("shape", [(20, 4, 4), (365, 10, 20), (1, 3, 1000)])
def test_a_plane(shape: Index, flight: int) -> None:
    plane = [(shape[0] // 2, *rest) for rest in row_major(shape[1:])]
    assert follow(in_flight(plane, flight), shape).hits >= 0.9


def test_planes_at_random() -> None:
    shape = (365, 10, 20)
    planes = random.Random(4).sample(range(365), 20)
    reads = [(plane, *rest) for plane in planes for rest in row_major(shape[1:])]
    outcome = follow(reads, shape)
    assert outcome.hits >= 0.9
    assert outcome.unread <= 0.2 * outcome.read


@pytest.mark.parametrize("flight", [1, 2])
@pytest.mark.parametrize("shape", [(20, 4, 4), (400, 1, 1), (365, 2, 2)])
def test_groups_of_four(shape: Index, flight: int) -> None:
    assert follow(in_flight(groups_of_four(shape), flight), shape).hits >= 0.9


@pytest.mark.parametrize("shape", [(20, 4, 4), (400, 1, 1), (365, 10, 20)])
def test_large_blocks_reversed(shape: Index) -> None:
    reads = blocks_reversed(shape, (10, *shape[1:]))[:4000]
    # Blocks of 10 chunks: each begins with two reads that nobody could foresee.
    assert follow(in_flight(reads, 6), shape).hits >= (0.85 if shape[1:] == (1, 1) else 0.95)


@pytest.mark.parametrize("flight", [1, 6])
def test_a_tile_through_time(flight: int) -> None:
    reads = [(t, y, x) for t in range(60) for y in (3, 4, 5) for x in range(5, 10)]
    assert follow(in_flight(reads, flight), (365, 10, 20)).hits >= 0.9


def test_strides() -> None:
    reads = [(t, 3, 4) for t in range(0, 365, 5)]
    outcome = follow(reads, (365, 10, 20))
    assert outcome.hits >= 0.95


def test_several_readers_of_one_array() -> None:
    shape = (365, 10, 20)
    reads = interleaved(
        row_major(shape)[:1000],
        dask_order(row_major(shape))[:1000],
        [(t, 9, 19) for t in range(200, 365)],
    )
    assert follow(reads, shape, warm_up=24).hits >= 0.9


def test_a_loop_over_time_reads_each_chunk_again() -> None:
    shape = (20, 4, 4)
    plane = row_major(shape[1:])
    reads = [(t, *rest) for t in range(20) for _ in range(2) for rest in plane]
    assert follow(reads, shape).hits >= 0.95


@settings(max_examples=150)
@given(
    shape=st.sampled_from([*GRIDS, (50, 50), (1000,), (7, 7, 7, 7)]),
    seed=st.integers(0, 2**32),
    length=st.integers(1, 600),
)
def test_a_random_reader_pays_for_few_guesses(shape: Index, seed: int, length: int) -> None:
    rng = random.Random(seed)
    reads = [tuple(rng.randrange(count) for count in shape) for _ in range(length)]
    outcome = follow(reads, shape)
    assert outcome.unread <= 0.2 * outcome.read + CREDIT


@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(1, 30), max_size=4).map(tuple),
    data=st.data(),
    max_chunks=st.integers(0, 70),
)
def test_any_reads_give_plans_within_bounds(
    shape: Index, data: st.DataObject, max_chunks: int
) -> None:
    """`follow` checks each plan; here with runs, jumps and repeats as hypothesis likes them."""
    near = st.tuples(*(st.integers(0, min(count, 6) - 1) for count in shape))
    anywhere = st.tuples(*(st.integers(0, count - 1) for count in shape))
    readers = follow(
        data.draw(st.lists(near | anywhere, max_size=80)), shape, max_chunks=max_chunks
    ).readers
    assert len(readers.streams) <= MAX_STREAMS
    assert len(readers.trace) <= RECENT


def test_nothing_grows_with_the_number_of_reads() -> None:
    rng = random.Random(5)
    starts = [rng.randrange(10**6) for _ in range(60)]
    readers = follow([(start + n,) for start in starts for n in range(30)], (10**6 + 40,)).readers
    assert len(readers.streams) <= MAX_STREAMS
    assert all(len(stream.ahead) <= 200 for stream in readers.streams)
    assert len(readers.planned) <= 64


def observed(shape: Index, reads: list[Index], most: int = 64) -> tuple[Readers, list[Plan]]:
    readers, plans = Readers.of(shape), []
    for index in reads:
        readers, plan = observe(readers, index, shape, most)
        plans.append(plan)
    return readers, plans


def test_three_reads_in_order_start_a_plan_and_hits_widen_it() -> None:
    _, plans = observed((100,), [(n,) for n in range(7)])
    assert [len(plan.fetch) for plan in plans[:3]] == [0, 0, 4]
    assert plans[2].fetch == ((3,), (4,), (5,), (6,))
    assert len(plans[3].fetch) > 1


def test_a_repeat_is_neutral() -> None:
    readers, _ = observed((100,), [(0,), (1,), (2,)])
    assert observe(readers, (1,), (100,), 64) == (readers, Plan())


def test_a_break_cancels_what_is_open() -> None:
    reads = [(n,) for n in range(20)]
    readers, _ = observed((10_000,), reads)
    still_open = set(readers.planned)
    assert still_open
    rng = random.Random(6)
    cancelled: set[Index] = set()
    for _ in range(12):
        readers, plan = observe(readers, (rng.randrange(1000, 10_000),), (10_000,), 64)
        cancelled |= set(plan.cancel)
    assert cancelled == still_open


def test_a_reader_that_stopped_gives_its_room_back() -> None:
    stopped, others = [(n,) for n in range(60)], [(n,) for n in range(5000, 5400)]
    outcome = follow(stopped + others, (10_000,), warm_up=300)
    assert outcome.hits == 1
    assert all(index >= (5000,) for index in outcome.readers.planned)


def test_a_resized_array_starts_anew() -> None:
    readers, _ = observed((100,), [(n,) for n in range(5)])
    grown, plan = observe(readers, (5,), (101,), 64)
    assert set(plan.cancel) == set(readers.planned)
    assert grown.shape == (101,) and not grown.planned


@pytest.mark.parametrize(
    ("shape", "index"), [((), ()), ((1, 1), (0, 0)), ((5,), (7,)), ((5,), (1, 1))]
)
def test_nothing_to_plan(shape: Index, index: Index) -> None:
    _, plan = observe(Readers.of(shape), index, shape, 64)
    assert plan == Plan()


class Traced(WrapperStore[LocalStore]):
    """Notes each key that is read."""

    def __init__(self, store: LocalStore, keys: list[str]) -> None:
        super().__init__(store)
        self.keys = keys

    def _with_store(self, store: LocalStore) -> "Traced":
        return Traced(store, self.keys)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        self.keys.append(key)
        return await super().get(key, prototype, byte_range)


READS: dict[str, Any] = {
    "full": lambda v: v.load(),
    "time mean": lambda v: v.mean("t").load(),
    "map": lambda v: v[3].load(),
    "series": lambda v: v[:, 5, 7].load(),
    "slice": lambda v: v[6:70, 4:12].load(),
    "loop": lambda v: [v.isel(t=t).load() for t in range(len(v.t))],
}


@pytest.mark.parametrize("chunks", [None, {}], ids=["numpy", "dask"])
@pytest.mark.parametrize("read", READS)
def test_what_xarray_really_reads(tmp_path: Path, read: str, chunks: Any) -> None:
    path = tmp_path / "a.zarr"
    array = np.zeros((80, 16, 24), "f4") + 1
    data = xr.Dataset({"v": (("t", "y", "x"), array)})
    data.to_zarr(path, encoding={"v": {"chunks": (2, 4, 4)}}, zarr_format=2)
    grid = parse_array(".zarray", (path / "v" / ".zarray").read_bytes())
    assert grid is not None and grid.grid_shape == (40, 4, 6)
    keys: list[str] = []
    store = Traced(LocalStore(path, read_only=True), keys)
    with dask.config.set(num_workers=2):
        variable = xr.open_zarr(store, chunks=chunks)["v"]
        keys.clear()
        READS[read](variable)
    indices = [index_of(grid, key.removeprefix("v/")) for key in keys if key.startswith("v/")]
    reads = [index for index in indices if index is not None]
    assert len(set(reads)) >= 20
    outcome = follow(reads, grid.grid_shape)
    assert outcome.hits >= 0.85
    assert outcome.unread <= 64 + 0.3 * outcome.read
