"""`zarrfuse warm` on real mounts: what is read afterwards costs no GET; errors say what to do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.support.mounts import FAST, Mount, wait_until, zarrfuse
from tests.support.swift import SwiftServer
from zarrfuse.report.socket import ask, runtime_directory, socket_path

#: Prefetch would fetch more than is counted here; a TTL as users have it, so that pages last.
EXACT = ("prefetch.at_once=0", "requests.budget_s=2")
TIMES, LATS, LONS = 24, 8, 6

Start = Callable[..., Mount]


def dataset() -> xr.Dataset:
    values = np.random.default_rng(1).normal(size=(TIMES, LATS, LONS)).astype("f4")
    return xr.Dataset(
        {"sst": (("time", "lat", "lon"), values), "mask": (("lat", "lon"), values[0])},
        coords={
            "time": xr.date_range("2000-01-01", periods=TIMES, freq="MS", use_cftime=False),
            "lat": np.linspace(70.0, -70.0, LATS),
            "lon": np.arange(LONS) * 60.0,
        },
    )


def upload(swift: SwiftServer, bucket: str, local: Path, key: str) -> int:
    """Puts a store into the bucket, as another machine would; the number of its objects."""
    files = sorted(path for path in local.rglob("*") if path.is_file())
    for path in files:
        swift.put(bucket, f"{key}/{path.relative_to(local)}", path.read_bytes())
    return len(files)


@pytest.fixture
def stored(swift: SwiftServer, bucket: str, tmp_path: Path, request: pytest.FixtureRequest) -> int:
    """`a.zarr` in the bucket, 24 times 2 chunks in the Zarr format of the test; its objects."""
    version = getattr(request, "param", 2)
    encoding = {"sst": {"chunks": (1, 4, 6)}, "mask": {"chunks": (8, 6)}}
    dataset().to_zarr(tmp_path / "a.zarr", zarr_format=version, encoding=encoding)
    return upload(swift, bucket, tmp_path / "a.zarr", "a.zarr")


@pytest.fixture
def cached(tmp_path: Path) -> list[str]:
    """The options of a mount with a cache of its own."""
    return ["--cache-dir", str(tmp_path / "cache")]


def gets(mount: Mount) -> int:
    """GETs so far. Asked without a process of its own: a slow machine must not miss the moment."""
    status = ask(socket_path(runtime_directory(os.environ), mount.path))
    assert status is not None
    return status.requests.get("get", {}).get("requests", 0)


@pytest.mark.parametrize("stored", [2, 3], indirect=True)
def test_after_warming_nothing_is_fetched(
    start: Start, binding: str, bucket: str, stored: int, cached: list[str]
) -> None:
    mount = start(f"s3://{bucket}", *cached, binding=binding, options=EXACT)
    said = zarrfuse("warm", mount.path / "a.zarr").stdout
    assert f"{stored} objects" in said
    assert gets(mount) == stored
    with xr.open_zarr(mount.path / "a.zarr", chunks=None) as seen:
        xr.testing.assert_equal(seen.load(), dataset())
    assert gets(mount) == stored
    assert "fetched: 0 objects" in zarrfuse("warm", mount.path / "a.zarr").stdout
    assert gets(mount) == stored
    mount.stop()


def test_what_was_warmed_survives_a_remount(
    start: Start, swift: SwiftServer, bucket: str, cached: list[str]
) -> None:
    for key in ("plain.bin", "two.zarr/0", "deep/er/x"):
        swift.put(bucket, key, os.urandom(40_000_000 if key == "plain.bin" else 100))
    mount = start(f"s3://{bucket}", *cached, options=EXACT)
    assert "3 objects" in zarrfuse("warm", mount.path).stdout
    assert mount.status()["cache"]["memory_blocks"] == 0
    mount.stop()
    again = start(f"s3://{bucket}", *cached, options=EXACT)
    found = (again.path / "plain.bin").read_bytes()
    assert found == swift.get(bucket, "plain.bin")
    assert "3 objects" in zarrfuse("warm", again.path, "--dry-run").stdout
    assert gets(again) == 0
    again.stop()


def test_a_selection_fetches_its_chunks_and_no_others(
    start: Start, bucket: str, stored: int, cached: list[str]
) -> None:
    mount = start(f"s3://{bucket}", *cached, options=EXACT)
    where = ["--sel", "time=2000-03:2000-06", "--sel", "lat=20:60", "--var", "sst"]
    zarrfuse("warm", mount.path / "a.zarr", "--var", "lat")
    opened = gets(mount)  # all metadata and labels
    zarrfuse("warm", mount.path / "a.zarr", *where)
    assert gets(mount) - opened == 4, "four months, and one of the two rows of chunks"
    with xr.open_zarr(mount.path / "a.zarr", chunks=None) as seen:
        part = seen["sst"].sel(time=slice("2000-03", "2000-06"), lat=slice(60, 20)).load()
    expected = dataset()["sst"].sel(time=slice("2000-03", "2000-06"), lat=slice(60, 20))
    xr.testing.assert_equal(part, expected)
    assert gets(mount) - opened == 4
    zarrfuse("warm", mount.path / "a.zarr/sst", "--isel", "time=-1")
    assert gets(mount) - opened == 6
    mount.stop()


def begun(mount: Mount, *args: str) -> subprocess.Popen[str]:
    """A `warm` that takes some seconds and has just begun to fetch."""
    before = gets(mount)
    command = [sys.executable, "-m", "zarrfuse", "warm", str(mount.path / "a.zarr"), *args]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: gets(mount) > before, "the first GET")
    return process


def test_broken_off_it_goes_on_where_it_was(
    start: Start, bucket: str, stored: int, cached: list[str]
) -> None:
    mount = start(f"s3://{bucket}", *cached, options=EXACT)
    slow = begun(mount, "--limit", "300")
    slow.send_signal(signal.SIGINT)
    slow.communicate(timeout=30)
    assert slow.returncode == 130
    said = zarrfuse("warm", mount.path / "a.zarr", "--dry-run").stdout
    there = re.search(r"in the cache: (\d+) objects", said)
    assert there and 0 < int(there[1]) < stored
    zarrfuse("warm", mount.path / "a.zarr", "--quiet")
    assert gets(mount) == stored, "no object was fetched twice"
    mount.stop()


def test_unmounting_meanwhile_is_told(
    start: Start, bucket: str, stored: int, cached: list[str]
) -> None:
    mount = start(f"s3://{bucket}", *cached, options=EXACT)
    slow = begun(mount, "--limit", "300")
    mount.stop()
    _, said = slow.communicate(timeout=30)
    assert slow.returncode == 69 and "Traceback" not in said and len(said.splitlines()) == 1


def test_a_daemon_that_dies_meanwhile_is_told(
    start: Start, bucket: str, stored: int, cached: list[str]
) -> None:
    mount = start(f"s3://{bucket}", *cached, options=EXACT)
    slow = begun(mount, "--limit", "300")
    mount.kill()
    _, said = slow.communicate(timeout=30)
    assert slow.returncode == 69 and str(mount.path) in said and len(said.splitlines()) == 1


def test_what_changed_meanwhile_is_named_and_fetched_by_the_next(
    start: Start, bucket: str, stored: int, cached: list[str], swift: SwiftServer
) -> None:
    mount = start(f"s3://{bucket}", *cached, options=EXACT)
    slow = begun(mount, "--limit", "2000")
    swift.delete(bucket, "a.zarr/time/0")
    swift.put(bucket, "a.zarr/sst/9.1.0", b"another version")
    _, said = slow.communicate(timeout=60)
    assert slow.returncode == 75, said
    assert "a.zarr/time/0: " in said and "a.zarr/sst/9.1.0: " in said
    assert f"2 of {stored} objects" in said
    assert "fetched: 1 objects" in zarrfuse("warm", mount.path / "a.zarr").stdout
    mount.stop()


def failed(*args: str | Path) -> tuple[int, str]:
    done = zarrfuse("warm", *args, check=False)
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    return done.returncode, done.stderr


def test_errors_say_what_to_do(
    start: Start, bucket: str, stored: int, cached: list[str], tmp_path: Path
) -> None:
    mount = start(f"s3://{bucket}", *cached, "--cache-size", "20kB", options=EXACT)
    store = mount.path / "a.zarr"
    code, said = failed(store, "--sel", "tiem=2000")
    assert code == 64 and all(dim in said for dim in ("time", "lat", "lon"))
    code, said = failed(mount.path, "--sel", "time=2000")
    assert code == 64 and "no Zarr store" in said
    code, said = failed(tmp_path)
    assert code == 69 and "no mount" in said
    code, said = failed(mount.path / "b.zarr")
    assert code == 66 and "b.zarr" in said
    code, said = failed(mount.path / "to-zarr")
    assert code == 66
    code, said = failed(store)
    assert code == 78 and "--cache-size" in said and "evicted" in said
    mount.stop()


def test_a_mount_without_a_cache_has_nothing_to_warm(
    start: Start, bucket: str, stored: int
) -> None:
    mount = start(f"s3://{bucket}", "--cache-size", "0", options=FAST)
    code, said = failed(mount.path / "a.zarr")
    assert code == 78 and "cache" in said
    mount.stop()
