"""Files are known by their bytes, and damaged ones by what they promise."""

import io
from pathlib import Path

import h5py
import pytest

from tests.support.netcdf import DATA, small_classic
from zarrfuse.convert.magic import Format, recognise
from zarrfuse.errors import NotNetCDF


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"station,temp\n1,2\n", "text"),
        (b"\x0e\x03\x13\x01" + bytes(100), "HDF4"),
        (b"\x1f\x8b\x08" + bytes(20), "gzip"),
        (b"<!DOCTYPE html><html>", "web page"),
        (bytes(5000), "neither"),
        (b"CDF\x07" + bytes(100), "variant"),
        (b"\x89HDF\r\n\x1a\n", "superblock"),
    ],
)
def test_what_it_is_instead(data: bytes, words: str) -> None:
    with pytest.raises(NotNetCDF, match=words):
        recognise(io.BytesIO(data))


def test_classic_and_hdf5(tmp_path: Path) -> None:
    with (DATA / "air.nc").open("rb") as stream:
        assert recognise(stream) is Format.HDF5
    with small_classic(tmp_path / "a", "NETCDF3_64BIT_DATA").open("rb") as stream:
        assert recognise(stream) is Format.CLASSIC


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("block", [0, 512, 4096])
def test_hdf5_of_every_superblock_is_whole_or_truncated(
    tmp_path: Path, libver: str, block: int
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=libver, userblock_size=block) as file:
        file["x"] = list(range(1000))
    data = path.read_bytes()
    assert recognise(io.BytesIO(data)) is Format.HDF5
    assert recognise(io.BytesIO(data + b"tail")) is Format.HDF5
    for length in (len(data) - 1, len(data) // 2, block + 100):
        with pytest.raises(NotNetCDF, match="truncated"):
            recognise(io.BytesIO(data[:length]))


def test_a_user_block_put_before_a_finished_file(tmp_path: Path) -> None:
    data = bytes(512) + (DATA / "air.nc").read_bytes()
    assert recognise(io.BytesIO(data)) is Format.HDF5
    with pytest.raises(NotNetCDF, match="truncated"):
        recognise(io.BytesIO(data[:-1]))
