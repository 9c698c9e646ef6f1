"""The classic header: every way to cut a file short is refused, or the file is whole."""

import io
import struct
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.netcdf import DATA, generate, small_classic
from zarrfuse.convert.classic import check_whole, read_header
from zarrfuse.errors import NotNetCDF

MODELS = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]


def values(path: Path) -> dict[str, bytes]:
    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_maskandscale(False)
        return {name: np.asarray(item[...]).tobytes() for name, item in dataset.variables.items()}


@pytest.mark.parametrize("model", MODELS)
def test_cut_anywhere_it_is_refused_or_whole(tmp_path: Path, model: str) -> None:
    path = small_classic(tmp_path / "a.nc", model)
    data = path.read_bytes()
    needed = check_whole(io.BytesIO(data), len(data)).needed_bytes
    assert len(data) - 4 < needed <= len(data)
    for length in range(4, needed):
        with pytest.raises(NotNetCDF):
            check_whole(io.BytesIO(data[:length]), length)
    for length in range(needed, len(data) + 1):
        check_whole(io.BytesIO(data[:length]), length)
    cut = tmp_path / "cut.nc"
    cut.write_bytes(data[:needed])
    assert values(cut) == values(path)


@pytest.mark.parametrize("dtype", ["i1", "i2", "f4"])
def test_a_lone_record_variable_is_not_padded(tmp_path: Path, dtype: str) -> None:
    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.createDimension("t", None)
        dataset.createDimension("x", 3)
        dataset.createVariable("v", dtype, ("t", "x"))[0:5] = 1

    path = generate(tmp_path / "a.nc", fill, model="NETCDF3_CLASSIC")
    size = path.stat().st_size
    with path.open("rb") as stream:
        assert size - 4 < check_whole(stream, size).needed_bytes <= size


def test_real_files_are_whole() -> None:
    for name in ("ubyte.nc", "ref_nctest_64bit_offset.nc"):
        path = DATA / name
        with path.open("rb") as stream:
            check_whole(stream, path.stat().st_size)


def test_a_streaming_writer_leaves_the_count_open(tmp_path: Path) -> None:
    path = small_classic(tmp_path / "a.nc", "NETCDF3_CLASSIC")
    data = bytearray(path.read_bytes())
    assert read_header(io.BytesIO(data), len(data)).records == 3
    data[4:8] = b"\xff\xff\xff\xff"
    assert read_header(io.BytesIO(data), len(data)).records == 3


def test_a_count_that_cannot_be_true_is_no_long_loop(tmp_path: Path) -> None:
    data = b"CDF\x01" + struct.pack(">III", 0, 0x0A, 0xFFFFFFF0)
    with pytest.raises(NotNetCDF, match="damaged"):
        read_header(io.BytesIO(data), len(data))


@given(st.binary(max_size=200), st.sampled_from([1, 2, 5]))
def test_any_bytes_give_a_header_or_a_refusal(tail: bytes, version: int) -> None:
    data = b"CDF" + bytes([version]) + tail
    try:
        header = read_header(io.BytesIO(data), len(data))
    except NotNetCDF:
        return
    assert header.needed_bytes >= 4
