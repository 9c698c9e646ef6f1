"""Chunks are fetched before they are read, through a real mount: each once, and the right ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests.mount.conftest import Live
from tests.support.mounts import wait_until

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
