"""Large directories and the opening of stores through a real mount: all of it, in few requests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.support.many_daemon import NAMES
from tests.support.mounts import Mount, run, wait_until

#: Changes of others are of no matter here; what is known stays known while a test runs.
CALM = ("metadata.ttl_s=600",)


def age(root: Path) -> None:
    """Makes everything a week old, so that absence is trusted."""
    for path in root.rglob("*"):
        os.utime(path, (1.7e9, 1.7e9))


def lists(mount: Mount) -> int:
    return mount.requests().get("list_page", 0)


@pytest.fixture
def many(binding: str, scratch: Path, tmp_path: Path) -> Iterator[Path]:
    """A mount of a bucket with the names of tests/support/many_daemon.py."""
    path = scratch / f"many-{binding}"
    path.mkdir()
    options = ",".join([f"mount.binding={binding}", *CALM])
    command = [sys.executable, "-m", "tests.support.many_daemon", "mount", "-f"]
    command += [tmp_path.as_uri(), str(path), "-o", options]
    with (scratch / f"many-{binding}.log").open("wb") as output:
        process = subprocess.Popen(command, stderr=output, env=os.environ)
    mount = Mount("many", path, {}, scratch / f"many-{binding}.log", process.pid)
    mount.expect(" is mounted on ")
    try:
        wait_until(lambda: os.path.ismount(path), "the mount")
        yield path
        run("fusermount3", "-u", path)
        process.wait(30)
        mount.check_log()
    finally:
        mount.clean_up()


def test_a_directory_of_50_001_keys_with_nested_prefixes(many: Path) -> None:
    assert len(NAMES) == 50_001
    found = run("ls", "-U", "-a", many / "big").stdout.split()
    shown = {name.split("/")[1] for name in NAMES}
    assert sorted(found) == sorted([".", "..", *shown])
    files = run("find", many / "big", "-type", "f").stdout.split()
    assert sorted(Path(file).relative_to(many).as_posix() for file in files) == NAMES


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_is_opened_with_a_page_for_it_and_one_for_each_coordinate(
    binding: str, start: Callable[..., Mount], tmp_path: Path, zarr_format: int
) -> None:
    values = np.arange(60 * 8 * 10, dtype="f4").reshape(60, 8, 10)
    axes = {"time": range(60), "lat": np.arange(8.0), "lon": np.arange(10.0)}
    data = xr.Dataset({"sst": (tuple(axes), values)}, coords=axes)
    root = tmp_path / "bucket"
    where = root / "some" / "where" / "s.zarr"
    data.to_zarr(where, zarr_format=zarr_format, encoding={"sst": {"chunks": (1, 8, 10)}})
    age(root)
    mount = start(root.as_uri(), binding=binding, options=CALM)
    before = mount.requests()
    with xr.open_zarr(mount.path / "some" / "where" / "s.zarr") as seen:
        assert seen.sizes == data.sizes
        asked = mount.requests()
        # The root, two directories, the store, three coordinates.
        assert asked["list_page"] - before["list_page"] <= 3 + 1 + 3
        assert asked["head"] == before["head"], "no absence was asked about twice"
        assert np.array_equal(seen["sst"].values, values)
    # All chunks of the array lie in one page more.
    assert lists(mount) - before["list_page"] <= 3 + 1 + 3 + 1
    mount.stop()
