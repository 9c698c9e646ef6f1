"""The drop box: a NetCDF file that is copied into it is a Zarr store in the bucket.

Values are compared with netCDF4's raw reading of the source; the store is read by zarr from the
bucket's own bytes.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr

from tests.mount.conftest import Live
from tests.support.mounts import FAST, Mount, run, shell, wait_until
from tests.support.swift import SwiftServer

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def cdf5(tmp_path: Path) -> Path:
    path = tmp_path / "five.nc"
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_DATA") as file:
        file.createDimension("t", None)
        file.createDimension("x", 7)
        file.createVariable("big", "u8", ("t", "x"))[:] = np.arange(21, dtype="u8").reshape(3, 7)
        file.title = "CDF-5"
    return path


def sources(cdf5: Path) -> dict[str, Path]:
    """NetCDF-3, NetCDF-4 with groups, NetCDF-4 packed and compressed, CDF-5."""
    return {
        "classic": DATA / "ref_nctest_64bit_offset.nc",
        "grouped": DATA / "grouped.nc",
        "packed": DATA / "sst.mnmean.nc",
        "cdf5": cdf5,
    }


def assert_same(file: netCDF4.Dataset | netCDF4.Group, group: zarr.Group) -> int:
    """Raw values, dtypes and dimension names of every variable, in all groups; how many."""
    count = 0
    for name, variable in file.variables.items():
        variable.set_auto_maskandscale(False)
        variable.set_auto_chartostring(False)
        array = group[name]
        assert isinstance(array, zarr.Array)
        assert array.attrs["_ARRAY_DIMENSIONS"] == list(variable.dimensions)
        expected = np.asarray(variable[...])
        assert array.dtype == variable.dtype or array.dtype == expected.dtype
        found = np.asarray(array[...]).astype(expected.dtype, copy=False)
        assert found.tobytes() == expected.tobytes(), name
        for attribute in variable.ncattrs():
            if attribute != "_FillValue":
                stored = np.asarray(array.attrs[attribute])
                assert np.array_equal(stored, variable.getncattr(attribute), equal_nan=False) or (
                    str(stored) == str(np.asarray(variable.getncattr(attribute)))
                )
        count += 1
    for name, child in file.groups.items():
        below = group[name]
        assert isinstance(below, zarr.Group)
        count += assert_same(child, below)
    return count


def opened(live: Live, name: str, tmp_path: Path) -> zarr.Group:
    """The store from the bucket's own bytes."""
    for key in live.stored():
        if key.startswith(f"{name}/"):
            path = tmp_path / "seen" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(live.get(key))
    return zarr.open_group(tmp_path / "seen" / name, mode="r", zarr_format=2)


def drop(how: str, source: Path, target: Path, tmp_path: Path) -> None:
    """By `how`; what is moved is a copy of the source."""
    match how:
        case "mv":
            shutil.copy(source, tmp_path / "moved.nc")
            run("mv", tmp_path / "moved.nc", target)
            assert not (tmp_path / "moved.nc").exists()
        case "rsync":
            run("rsync", "-a", source, target)
        case _:
            run(how, source, target)


@pytest.mark.parametrize("how", ["cp", "mv", "rsync"])
@pytest.mark.parametrize("kind", ["classic", "grouped", "packed", "cdf5"])
def test_a_dropped_file_becomes_an_equal_store(
    live: Live, tmp_path: Path, cdf5: Path, how: str, kind: str
) -> None:
    source = sources(cdf5)[kind]
    drop(how, source, live.drop / "b.nc", tmp_path)
    if how == "rsync":  # rename() does not wait for the conversion
        wait_until(lambda: "b.zarr/.zmetadata" in live.stored(), "the store")
    with netCDF4.Dataset(source) as file:
        assert assert_same(file, opened(live, "b.zarr", tmp_path)) > 0
    assert (live.here / "b.zarr/.zmetadata").exists()
    assert not [key for key in live.stored() if not key.startswith("b.zarr/")]


def test_the_store_opens_through_the_mount_at_once(live: Live) -> None:
    assert not (live.here / "sst.zarr").exists()
    run("cp", DATA / "sst.mnmean.nc", live.drop / "sst.nc")
    with (
        xr.open_zarr(live.here / "sst.zarr") as seen,
        xr.open_dataset(DATA / "sst.mnmean.nc") as file,
    ):
        np.testing.assert_array_equal(seen["sst"][3].values, file["sst"][3].values)
        assert seen["time"].values[0] == file["time"].values[0]


def test_it_mirrors_the_directories_and_shows_neither_stores_nor_files(live: Live) -> None:
    live.put("cmip6/day/readme.txt", b"x")
    live.put("plain.txt", b"x")
    live.put("old.zarr/.zgroup", b"{}")
    live.put("unnamed/zarr.json", b"{}")
    assert sorted(os.listdir(live.drop)) == ["cmip6"]
    assert os.listdir(live.drop / "cmip6") == ["day"]
    assert os.listdir(live.drop / "cmip6/day") == []
    for hidden in ("plain.txt", "old.zarr", "unnamed"):
        assert not (live.drop / hidden).exists()
    (live.drop / "new/deep").mkdir(parents=True)
    assert (live.here / "new/deep").is_dir()
    run("cp", DATA / "air.nc", live.drop / "cmip6/")
    assert (live.here / "cmip6/air.zarr/.zmetadata").exists()


def test_a_finished_file_keeps_its_size_and_time_and_has_no_bytes(live: Live) -> None:
    source = DATA / "air.nc"
    shutil.copy2(source, live.drop / "air.nc")
    shown = (live.drop / "air.nc").stat()
    assert (shown.st_size, shown.st_mtime_ns) == (source.stat().st_size, source.stat().st_mtime_ns)
    assert os.listdir(live.drop) == ["air.nc"]
    with pytest.raises(OSError) as gone:
        (live.drop / "air.nc").read_bytes()
    assert gone.value.errno == errno.ENODATA
    (live.drop / "air.nc").unlink()
    assert os.listdir(live.drop) == [] and (live.here / "air.zarr").is_dir()


def bad_files(tmp_path: Path) -> dict[str, Path]:
    """What is no NetCDF, or none that can be read."""
    sst = (DATA / "sst.mnmean.nc").read_bytes()
    classic = (DATA / "ref_nctest_64bit_offset.nc").read_bytes()
    made = {
        "text": b"a text file, and not a short one\n" * 100,
        "truncated": sst[: len(sst) // 2],
        "truncated-classic": classic[: len(classic) - 100],
        "hdf4": b"\x0e\x03\x13\x01" + bytes(5000),
        "empty": b"",
    }
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    paths = {name: tmp_path / name for name in made}
    return paths | {"crash": DATA / "NEONDSTowerTemperatureData.hdf5"}


@pytest.mark.parametrize(
    "kind", ["text", "truncated", "truncated-classic", "hdf4", "empty", "crash"]
)
def test_what_is_no_netcdf_fails_with_words_and_leaves_nothing(
    live: Live, tmp_path: Path, kind: str
) -> None:
    live.mount.expect('"conversion ended"|converter')
    failed = run("cp", bad_files(tmp_path)[kind], live.drop / "x.nc", check=False)
    assert failed.returncode == 1 and "x.nc" in failed.stderr, failed.stderr
    said = (live.drop / "x.nc.error.txt").read_text()
    assert said.startswith("x.nc: ") and len(said) > 20 and said[-1] == "\n"
    assert str(tmp_path) not in said
    assert live.stored() == []
    assert (live.drop / "x.nc").stat().st_size == bad_files(tmp_path)[kind].stat().st_size
    run("cp", DATA / "air.nc", live.drop / "x.nc")
    assert "x.zarr/.zmetadata" in live.stored()
    assert os.listdir(live.drop) == ["x.nc"], "the error text is gone with the error"


def test_a_file_that_failed_can_be_read_and_removed(live: Live, tmp_path: Path) -> None:
    text = b"not NetCDF at all\n"
    (tmp_path / "x").write_bytes(text)
    run("cp", tmp_path / "x", live.drop / "x.nc", check=False)
    assert (live.drop / "x.nc").read_bytes() == text
    assert live.mount.status()["parked"][-1]["size"] == len(text)
    (live.drop / "x.nc").unlink()
    assert os.listdir(live.drop) == []
    wait_until(
        lambda: all(p["size"] != len(text) for p in live.mount.status()["parked"]),
        "its bytes to go",
    )


@pytest.mark.parametrize("standing", ["foreign", "object", "other-source"])
def test_what_stands_at_the_target_is_never_touched(live: Live, standing: str) -> None:
    match standing:
        case "foreign":
            zarr.create_array(live.here / "b.zarr", shape=(2,), dtype="i4", zarr_format=2)[:] = 1
        case "object":
            live.put("b.zarr", b"an object of that name")
        case _:
            run("cp", DATA / "air.nc", live.drop / "b.nc")
    before = {key: live.get(key) for key in live.stored()}
    failed = run("cp", DATA / "contiguous.nc", live.drop / "b.nc", check=False)
    assert failed.returncode == 1 and os.strerror(errno.EEXIST) in failed.stderr
    assert "b.zarr" in (live.drop / "b.nc.error.txt").read_text()
    assert {key: live.get(key) for key in live.stored()} == before


def test_dropping_the_same_file_again_changes_nothing(live: Live) -> None:
    run("cp", DATA / "air.nc", live.drop / "b.nc")
    before = {key: live.swift.head(live.bucket, f"{live.here.name}/{key}")["LastModified"]
              for key in live.stored()}  # fmt: skip
    run("cp", DATA / "air.nc", live.drop / "b.nc")
    after = {key: live.swift.head(live.bucket, f"{live.here.name}/{key}")["LastModified"]
             for key in live.stored()}  # fmt: skip
    assert after == before


def test_shell_redirection_and_dd_into_the_drop_box(live: Live) -> None:
    """Both flush an empty file first; neither looks at what that answers."""
    shell(
        f"cat {DATA}/air.nc > a.nc; dd if={DATA}/air.nc of=d.nc bs=10k status=none", cwd=live.drop
    )
    wait_until(
        lambda: {"a.zarr/.zmetadata", "d.zarr/.zmetadata"} <= set(live.stored()), "both stores"
    )
    assert sorted(os.listdir(live.drop)) == ["a.nc", "d.nc"]


def test_the_source_is_named_in_the_store_without_a_path(live: Live) -> None:
    run("cp", DATA / "air.nc", live.drop / "b.nc")
    attributes = json.loads(live.get("b.zarr/.zattrs"))
    assert attributes["zarrfuse:source"]["name"] == "b.nc"
    assert str(DATA) not in live.get("b.zarr/.zmetadata").decode()


def test_a_rename_out_of_the_bucket_tree_copies(live: Live) -> None:
    shutil.copy(DATA / "air.nc", live.here / "a.nc")
    with pytest.raises(OSError) as crossed:
        os.rename(live.here / "a.nc", live.drop / "a.nc")
    assert crossed.value.errno == errno.EXDEV
    run("mv", live.here / "a.nc", live.drop / "a.nc")
    assert "a.nc" not in live.stored() and "a.zarr/.zmetadata" in live.stored()


def test_programs_see_an_error_from_close(live: Live) -> None:
    done = subprocess.run(
        ["python3", "-c", "f = open('x.nc', 'w'); f.write('no NetCDF'); f.close()"],
        cwd=live.drop, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Invalid argument" in done.stderr


def test_close_goes_on_without_the_store_after_the_wait(
    start: Callable[..., Mount], swift: SwiftServer, bucket: str, binding: str
) -> None:
    mount = start(f"s3://{bucket}", binding=binding, options=(*FAST, "ingest.wait_s=0"))
    run("cp", DATA / "air.nc", mount.path / "to-zarr/")
    assert (mount.path / "to-zarr/air.nc").stat().st_size == (DATA / "air.nc").stat().st_size
    wait_until(lambda: "air.zarr/.zmetadata" in swift.keys(bucket), "the store")
    with (mount.path / "to-zarr/b.nc").open("wb") as file:
        file.write((DATA / "air.nc").read_bytes())
        file.flush()
        os.fsync(file.fileno())
        assert "b.zarr/.zmetadata" in swift.keys(bucket), "fsync waits for the store"
    mount.stop()


def test_umount_waits_for_the_conversion(
    start: Callable[..., Mount], swift: SwiftServer, bucket: str
) -> None:
    mount = start(f"s3://{bucket}", options=(*FAST, "ingest.wait_s=0"))
    run("cp", DATA / "sst.mnmean.nc", mount.path / "to-zarr/")
    mount.stop()
    assert "sst.mnmean.zarr/.zmetadata" in swift.keys(bucket)
