"""Zarr through the mount: the libraries that our users read and write it with, against real Swift.

The bucket itself is looked at by zarr over plain botocore bytes, never through our own code.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import xarray as xr
import zarr

from tests.mount.conftest import Live
from tests.support.mounts import run

FORMATS = (2, 3)


def dataset(start: int = 0) -> xr.Dataset:
    rng = np.random.default_rng(start)
    shape = (6, 8, 10)
    return xr.Dataset(
        {
            "sst": (("time", "lat", "lon"), rng.normal(15, 5, shape).astype("f4")),
            "mask": (("lat", "lon"), rng.integers(0, 2, shape[1:]).astype("i1")),
        },
        coords={"time": np.arange(start, start + 6), "lat": np.linspace(-70, 70, 8)},
        attrs={"title": "a test: größer"},
    )


CHUNKS = {"sst": {"chunks": (2, 4, 5)}}


def in_bucket(live: Live, name: str) -> dict[str, bytes]:
    return {key: live.get(key) for key in live.stored() if key.startswith(f"{name}/")}


def from_bucket(live: Live, name: str, tmp_path: Path) -> xr.Dataset:
    """The store as another machine sees it."""
    target = tmp_path / f"seen-{name}"
    for key, data in in_bucket(live, name).items():
        path = target / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return xr.open_zarr(target / name).load()


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("consolidated", [True, False])
def test_xarray_reads_what_another_machine_wrote(
    live: Live, tmp_path: Path, zarr_format: Any, consolidated: bool
) -> None:
    local = tmp_path / "s.zarr"
    dataset().to_zarr(local, zarr_format=zarr_format, consolidated=consolidated, encoding=CHUNKS)
    for path in sorted(p for p in local.rglob("*") if p.is_file()):
        live.swift.put(live.bucket, f"{live.here.name}/s.zarr/{path.relative_to(local)}",
                       path.read_bytes())  # fmt: skip
    live.put("seen", b"")  # the mount has looked again
    with xr.open_zarr(live.here / "s.zarr", consolidated=consolidated) as seen:
        xr.testing.assert_identical(seen.load(), dataset())


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_to_zarr_writes_the_store_and_mode_w_replaces_it(
    live: Live, tmp_path: Path, zarr_format: Any
) -> None:
    store = live.here / "s.zarr"
    dataset().to_zarr(store, zarr_format=zarr_format, encoding=CHUNKS)
    xr.testing.assert_identical(from_bucket(live, "s.zarr", tmp_path), dataset())
    assert not [key for key in live.stored() if "partial" in key]
    smaller = dataset(7)[["mask"]]
    smaller.to_zarr(store, mode="w", zarr_format=zarr_format)
    shutil.rmtree(tmp_path / "seen-s.zarr")
    xr.testing.assert_identical(from_bucket(live, "s.zarr", tmp_path), smaller)
    with xr.open_zarr(store) as seen:
        xr.testing.assert_identical(seen.load(), smaller)


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_append_dim(live: Live, tmp_path: Path, zarr_format: Any) -> None:
    store = live.here / "s.zarr"
    dataset(0).to_zarr(store, zarr_format=zarr_format, encoding=CHUNKS)
    dataset(6).to_zarr(store, append_dim="time")
    both = xr.concat([dataset(0).drop_vars("mask"), dataset(6).drop_vars("mask")], "time")
    both["mask"] = dataset(6)["mask"]  # what has no such dimension is written again
    xr.testing.assert_identical(from_bucket(live, "s.zarr", tmp_path), both)
    with xr.open_zarr(store) as seen:
        xr.testing.assert_identical(seen.load(), both)


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_groups_and_nested_arrays_that_zarr_links_into_place(live: Live, zarr_format: Any) -> None:
    """create_group('a/b') makes the groups above by link(2), which must not replace."""
    root = zarr.open_group(live.here / "g.zarr", mode="w", zarr_format=zarr_format)
    root.create_group("a/b").attrs["here"] = "b"
    array = root.create_array("a/c/d", shape=(4,), chunks=(2,), dtype="i4")
    array[:] = [1, 2, 3, 4]
    name = ".zgroup" if zarr_format == 2 else "zarr.json"
    assert {f"g.zarr/{g}/{name}" for g in ("a", "a/b", "a/c")} <= set(live.stored())
    again = zarr.open_group(live.here / "g.zarr", mode="r")
    assert again["a/b"].attrs["here"] == "b"
    assert list(again["a/c/d"][:]) == [1, 2, 3, 4]


def test_a_missing_chunk_is_fill_and_one_written_elsewhere_is_seen(live: Live) -> None:
    array = zarr.create_array(
        live.here / "a.zarr", shape=(4,), chunks=(2,), dtype="i4", fill_value=7, compressors=None
    )
    array[:2] = [1, 2]
    assert list(array[:]) == [1, 2, 7, 7]
    live.put("a.zarr/c/1", np.array([3, 4], "i4").tobytes())
    assert list(array[:]) == [1, 2, 3, 4]


@pytest.mark.parametrize("driver", ["zarr", "zarr3"])
def test_tensorstore_writes_and_reads(live: Live, driver: str) -> None:
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{live.here}/t.zarr/"}}
    data = np.arange(60, dtype="i4").reshape(6, 10)
    store = tensorstore.open(spec, create=True, dtype="int32", shape=[6, 10]).result()
    store[...].write(data).result()
    assert not [key for key in live.stored() if "__lock" in key]
    again = tensorstore.open(spec, open=True).result()
    assert np.array_equal(again.read().result(), data)
    opened = zarr.open_array(live.here / "t.zarr", mode="r")
    assert np.array_equal(opened[:], data)


def test_gdalinfo_reads_a_v2_store(live: Live) -> None:
    dataset().to_zarr(live.here / "s.zarr", zarr_format=2, encoding=CHUNKS)
    said = run("gdalinfo", f'ZARR:"{live.here}/s.zarr":/sst:0').stdout
    assert "Size is 10, 8" in said
    said = run("gdalinfo", "-stats", f'ZARR:"{live.here}/s.zarr":/sst:0').stdout
    expected = float(dataset()["sst"][0].max())
    (line,) = [text for text in said.splitlines() if "STATISTICS_MAXIMUM" in text]
    assert float(line.partition("=")[2]) == pytest.approx(expected, rel=1e-6)
    assert not [key for key in live.stored() if "aux.xml" in key and key.startswith("s.zarr/sst")]


def test_cp_r_of_a_store_in_and_out_is_the_same_store(live: Live, tmp_path: Path) -> None:
    dataset().to_zarr(tmp_path / "s.zarr", zarr_format=2, encoding=CHUNKS)
    run("cp", "-r", tmp_path / "s.zarr", live.here)
    run("cp", "-r", live.here / "s.zarr", tmp_path / "back.zarr")
    subprocess.run(["diff", "-r", tmp_path / "s.zarr", tmp_path / "back.zarr"], check=True)
    with xr.open_zarr(live.here / "s.zarr") as seen:
        xr.testing.assert_identical(seen.load(), dataset())


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_to_zarr_costs_one_put_for_each_object(live: Live, zarr_format: Any) -> None:
    before = live.mount.requests()
    dataset().to_zarr(live.here / "s.zarr", zarr_format=zarr_format, encoding=CHUNKS)
    after = live.mount.requests()
    chunks = [k for k in live.stored() if k.rpartition("/")[2][-1].isdigit()]
    metadata = len(live.stored()) - len(chunks)
    puts = after["put"] - before.get("put", 0)
    # Metadata objects are written twice by xarray (created, then with attributes).
    assert len(chunks) <= puts - metadata <= len(chunks) + 2 * metadata
    assert after.get("copy", 0) == before.get("copy", 0)
