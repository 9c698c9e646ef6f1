"""Chunks are fetched before they are read, through a real mount: each once, and the right ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from tests.mount.conftest import Live
from tests.support.mounts import wait_until
from zarrfuse.core.access import CREDIT

CHUNKS = 80


@pytest.fixture
def store(live: Live, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A store of 80 chunks that another machine wrote, in the Zarr format of the test."""
    values = np.random.default_rng(0).normal(size=(CHUNKS, 40, 50)).astype("f4")
    data = xr.Dataset({"sst": (("time", "lat", "lon"), values)}, coords={"time": range(CHUNKS)})
    encoding = {"sst": {"chunks": (1, 40, 50)}}
    data.to_zarr(tmp_path / "s.zarr", zarr_format=request.param, encoding=encoding)
    for path in sorted(p for p in (tmp_path / "s.zarr").rglob("*") if p.is_file()):
        key = f"{live.here.name}/s.zarr/{path.relative_to(tmp_path / 's.zarr')}"
        live.swift.put(live.bucket, key, path.read_bytes())
    live.put("seen", b"")
    return tmp_path / "s.zarr"


def gets(live: Live) -> int:
    return live.mount.requests().get("get", 0)


def counters(live: Live) -> dict[str, int]:
    cache: dict[str, int] = live.mount.status()["cache"]
    return cache


@pytest.mark.parametrize("store", [2, 3], indirect=True)
@pytest.mark.parametrize("order", ["forward", "backward", "dask"])
def test_a_scan_is_fetched_ahead_and_each_chunk_once(live: Live, store: Path, order: str) -> None:
    before, requests = counters(live), gets(live)
    expected = xr.open_zarr(store).load()
    chunks: Any = {} if order == "dask" else None
    with xr.open_zarr(live.here / "s.zarr", chunks=chunks) as seen:
        if order == "dask":
            found = seen["sst"].values
        else:
            steps = range(CHUNKS) if order == "forward" else reversed(range(CHUNKS))
            parts = {n: seen["sst"][n].values for n in steps}
            found = np.stack([parts[n] for n in range(CHUNKS)])
    assert np.array_equal(found, expected["sst"].values)
    after = counters(live)
    assert after["prefetch_useful"] - before["prefetch_useful"] > CHUNKS // 2
    objects = sum(1 for p in store.rglob("*") if p.is_file())
    assert gets(live) - requests <= objects, "no object was fetched twice"


@pytest.mark.parametrize("store", [3], indirect=True)
def test_one_chunk_drags_few_others_along(live: Live, store: Path) -> None:
    requests = gets(live)
    with xr.open_zarr(live.here / "s.zarr", chunks=None) as seen:
        for n in (70, 3, 41, 12):
            seen["sst"][n].values  # noqa: B018 - reading is the point
    wait_until(lambda: counters(live)["prefetch_planned"] >= 0, "the status")
    assert gets(live) - requests <= 4 + 6, "four chunks, the metadata and the coordinate"


#: 128 inner chunks of 64 KiB in 2 shards.
SHAPE, SHARD, INNER = (32, 256, 256), (16, 256, 256), (1, 128, 128)
INNER_BYTES = 128 * 128 * 4
VALUES = np.random.default_rng(1).normal(size=SHAPE).astype("f4")
Read = Callable[[Any], Any]


@pytest.fixture(params=["end", "start"])
def sharded(live: Live, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """On the mount: a sharded array that another machine wrote, its indexes there or there."""
    array = zarr.create_array(
        tmp_path / "s.zarr",
        shape=SHAPE,
        dtype="f4",
        chunks=INNER,
        shards={"shape": SHARD, "index_location": request.param},
        compressors=None,
    )
    array[:] = VALUES
    for path in sorted(p for p in (tmp_path / "s.zarr").rglob("*") if p.is_file()):
        key = f"{live.here.name}/s.zarr/{path.relative_to(tmp_path / 's.zarr')}"
        live.swift.put(live.bucket, key, path.read_bytes())
    live.put("seen", b"")
    return live.here / "s.zarr"


#: What is read, how many inner chunks these are, and how many of them must be there in time.
SHARDED_READS: dict[str, tuple[Read, int, int]] = {
    "rows reversed": (lambda v: np.stack([v[t] for t in reversed(range(32))]), 128, 80),
    "a series at a point": (lambda v: v[:, 200, 200], 32, 12),
    "a loop at a point": (lambda v: [v[t, 200, 200] for t in range(32)], 32, 16),
}


@pytest.mark.parametrize("name", SHARDED_READS)
def test_inner_chunks_of_shards_are_fetched_ahead(live: Live, sharded: Path, name: str) -> None:
    read, chunks, useful = SHARDED_READS[name]
    before = counters(live)
    assert np.array_equal(read(zarr.open_array(sharded, mode="r")), read(VALUES))
    after = counters(live)
    assert after["prefetch_useful"] - before["prefetch_useful"] >= useful
    assert after["fetches"] - before["fetches"] <= 1.6 * chunks
    # A chunk that lies across two pieces of the cache brings both.
    assert after["fetched_bytes"] - before["fetched_bytes"] <= 2.2 * chunks * INNER_BYTES


def test_random_inner_chunks_drag_little_along(live: Live, sharded: Path) -> None:
    array, rng = zarr.open_array(sharded, mode="r"), np.random.default_rng(3)
    before = counters(live)
    points = [tuple(rng.integers(0, SHAPE)) for _ in range(30)]
    for point in points:
        assert array[point] == VALUES[point]
    got = counters(live)["fetched_bytes"] - before["fetched_bytes"]
    chunks = len({tuple(np.floor_divide(point, INNER)) for point in points})
    # Python fills a buffer of the size that stat shows, also for a part of a shard.
    assert (sharded / "c/0/0/0").stat().st_blksize < INNER_BYTES
    # Two pieces for each, and for each guess that a new reader is granted; two indexes, and what
    # the kernel reads beyond a chunk at the beginning of a file (up to 450 kB, measured).
    assert got <= 2 * (chunks + CREDIT) * INNER_BYTES + 20 * 65536


def test_a_shard_is_read_whole_in_few_requests(live: Live, sharded: Path) -> None:
    before = counters(live)
    assert np.array_equal(zarr.open_array(sharded, mode="r")[:], VALUES)
    after = counters(live)
    # A busy machine makes the fetches smaller, but never as many as the 128 inner chunks.
    assert after["fetches"] - before["fetches"] <= 32
    assert after["fetched_bytes"] - before["fetched_bytes"] <= 1.2 * VALUES.nbytes
