"""What a naive conversion loses, row by row: each is kept exactly."""

import base64
import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import zarr

from tests.support.netcdf import convert_to, generate, small_classic
from tests.support.oracles import (
    assert_same_in_xarray,
    assert_same_raw_attributes,
    assert_same_values,
)
from zarrfuse.convert.plan import Sizes

MODELS = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]
RNG = np.random.default_rng(7)
Fill = Callable[[netCDF4.Dataset], None]


class Made:
    """A generated file and its store."""

    def __init__(self, tmp_path: Path, fill: Fill, model: str = "NETCDF4", **sizes: int) -> None:
        self.source = generate(tmp_path / "made.nc", fill, model=model)
        self.store = tmp_path / "made.zarr"
        convert_to(self.source, self.store, Sizes(**sizes))
        assert_same_values(self.source, self.store)
        assert_same_raw_attributes(self.source, self.store)

    def json(self, key: str) -> Any:
        return json.loads((self.store / key).read_bytes())

    def attributes(self, name: str) -> dict[str, Any]:
        return dict(self.json(f"{name}/.zattrs"))

    def array(self, name: str) -> dict[str, Any]:
        return dict(self.json(f"{name}/.zarray"))


def one(kind: str, values: Any, **attributes: Any) -> Fill:
    """A single variable `v` along `x`."""

    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.createDimension("x", len(values))
        fill_value = attributes.pop("_FillValue", None)
        variable = dataset.createVariable("v", kind, ("x",), fill_value=fill_value)
        variable.set_auto_maskandscale(False)
        variable.setncatts(attributes)
        variable[:] = np.asarray(values)

    return fill


@pytest.mark.parametrize("model", MODELS)
def test_classic_formats(tmp_path: Path, model: str) -> None:
    source = small_classic(tmp_path / "a.nc", model)
    convert_to(source, tmp_path / "a.zarr")
    assert assert_same_values(source, tmp_path / "a.zarr") == 4
    assert assert_same_in_xarray(source, tmp_path / "a.zarr")


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["little", "big"])
def test_every_number_type_in_both_byte_orders(tmp_path: Path, dtype: str, order: Any) -> None:
    values = np.frombuffer(RNG.bytes(80 * np.dtype(dtype).itemsize), dtype)

    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.createDimension("x", 80)
        dataset.createVariable("v", dtype, ("x",), endian=order)[:] = values

    made = Made(tmp_path, fill)
    wanted = np.dtype(dtype).newbyteorder(">" if order == "big" else "<").str
    assert made.array("v")["dtype"] == wanted


def test_fill_value_and_missing_value_that_differ(tmp_path: Path) -> None:
    made = Made(
        tmp_path, one("i2", [1, -1, -9], _FillValue=np.int16(-1), missing_value=np.int16(-9))
    )
    assert made.array("v")["fill_value"] == -1
    assert made.attributes("v")["missing_value"] == -9
    assert "_FillValue" not in made.attributes("v")


def test_several_missing_values(tmp_path: Path) -> None:
    made = Made(tmp_path, one("f4", [1, 2], missing_value=np.array([1, 2], "f4")))
    assert made.attributes("v")["missing_value"] == [1.0, 2.0]


def test_no_fill_value_is_declared_where_the_source_has_none(tmp_path: Path) -> None:
    made = Made(tmp_path, one("f4", [0, 1, math.nan]))
    assert made.array("v")["fill_value"] is None
    assert assert_same_in_xarray(made.source, made.store)


def test_a_fill_value_of_another_type_is_not_cast(tmp_path: Path) -> None:
    """As in ERA-Interim files: NaN on int16. A cast would mask zeros that are valid."""

    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.createDimension("x", 3)
        variable = dataset.createVariable("v", "i2", ("x",))
        variable[:] = [0, 1, 2]

    source = generate(tmp_path / "a.nc", fill, model="NETCDF3_CLASSIC")
    data = source.read_bytes()
    # libnetcdf would not write such an attribute: insert it into the header by hand.
    absent = data.index(b"v\0\0\0") + 4 + 4 + 4
    name = b"\0\0\0\x0c\0\0\0\x01\0\0\0\x0a_FillValue\0\0\0\0\0\x06\0\0\0\x01\x7f\xf8\0\0\0\0\0\0"
    patched = bytearray(data[:absent] + name + data[absent + 8 :])
    begin = absent + len(name) + 8
    shifted = int.from_bytes(patched[begin : begin + 4], "big") + len(name) - 8
    patched[begin : begin + 4] = shifted.to_bytes(4, "big")
    source.write_bytes(patched)
    convert_to(source, tmp_path / "a.zarr")
    array = json.loads((tmp_path / "a.zarr/v/.zarray").read_bytes())
    assert array["fill_value"] is None
    assert list(zarr.open_array(tmp_path / "a.zarr/v", mode="r")[...]) == [0, 1, 2]
    attributes = json.loads((tmp_path / "a.zarr/v/.zattrs").read_bytes())
    assert math.isnan(attributes["_FillValue"])
    assert attributes["_nczarr_attr"]["types"]["_FillValue"] == "<f8"


@pytest.mark.parametrize("scale", [np.float32(0.1), np.float64(0.1)])
@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "f4"])
def test_packed_values_stay_packed(tmp_path: Path, dtype: str, scale: Any) -> None:
    values = np.arange(-60, 60).astype(dtype)
    made = Made(
        tmp_path,
        one(
            dtype, values, scale_factor=scale, add_offset=scale, _FillValue=np.array(-1, dtype)[()]
        ),
    )
    assert made.attributes("v")["_nczarr_attr"]["types"]["scale_factor"] == scale.dtype.str


def test_large_packed_integers(tmp_path: Path) -> None:
    values = RNG.integers(-(2**62), 2**62, 1000)
    Made(tmp_path, one("i8", values, _FillValue=np.int64(-(2**62)), scale_factor=1e-3))


def test_nan_payloads_and_negative_zero(tmp_path: Path) -> None:
    bits = np.array([0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000, 0x7F800000], "u4")
    Made(tmp_path, one("f4", bits.view("f4")))


def test_a_nan_fill_value_with_a_payload_keeps_its_bits(tmp_path: Path) -> None:
    fill = np.array([0x7FC00001], "u4").view("f4")[0]
    made = Made(tmp_path, one("f4", [1.0], _FillValue=fill))
    assert made.array("v")["fill_value"] is None
    raw = made.attributes("v")["_nc_zarrfuse"]["raw"]["_FillValue"]["base64"]
    assert base64.b64decode(raw) == fill.tobytes()


@pytest.mark.parametrize(
    ("units", "calendar"),
    [
        ("days since 1961-01-01", "360_day"),
        ("months since 1-1-1", None),
        ("hours since 2000-01-01T00:00:00+05:00", "gregorian"),
        ("fortnights since never", "martian"),
    ],
)
def test_time_axes_of_any_unit(tmp_path: Path, units: str, calendar: str | None) -> None:
    attributes = {"units": units} | ({"calendar": calendar} if calendar else {})
    made = Made(tmp_path, one("f8", [0.1, 1e15, -3.3], **attributes))
    assert made.attributes("v")["units"] == units
    assert made.attributes("v").get("calendar") == calendar


def test_characters_keep_their_dimension(tmp_path: Path) -> None:
    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.createDimension("x", 2)
        dataset.createDimension("strlen", 4)
        variable = dataset.createVariable("v", "S1", ("x", "strlen"), fill_value=" ")
        variable[:] = np.array([[b"a", b"b", b"\0", b" "], [b"\xff", b"c", b"d", b"\0"]], "S1")

    made = Made(tmp_path, fill)
    assert made.array("v")["dtype"] == "|S1"
    assert base64.b64decode(made.array("v")["fill_value"]) == b" "
    assert made.attributes("v")["_ARRAY_DIMENSIONS"] == ["x", "strlen"]


def test_strings(tmp_path: Path) -> None:
    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.createDimension("x", 5)
        strings = np.array(["", "é", "naïve", "\u2603" * 50, "a b"], object)
        dataset.createVariable("v", str, ("x",))[:] = strings
        dataset.createVariable("scalar", str, ())[...] = "one"
        dataset.createVariable("grid", str, ("x", "x"), chunksizes=(2, 2))[2, 1] = "here"

    made = Made(tmp_path, fill, keep_min=1)
    assert made.array("v")["filters"] == [{"id": "vlen-utf8"}]


def test_compounds(tmp_path: Path) -> None:
    dtype = np.dtype(
        [("day", "i1"), ("count", "<i4"), ("letter", "S1"), ("time", "<f8")], align=True
    )
    values = np.array([(1, 2, b"x", 3.5), (4, 5, b"y", 6.5)], dtype)

    def fill(dataset: netCDF4.Dataset) -> None:
        kind = dataset.createCompoundType(dtype, "obs_t")
        dataset.createDimension("x", 2)
        dataset.createVariable("v", kind, ("x",))[:] = values

    made = Made(tmp_path, fill)
    assert made.array("v")["dtype"][1] == ["count", "<i4"]


def test_enumerations_keep_their_labels(tmp_path: Path) -> None:
    members = {"clear sky": 0, "Cumulus": 1, "missing": 127}

    def fill(dataset: netCDF4.Dataset) -> None:
        kind = dataset.createEnumType("i1", "cloud_t", members)
        dataset.createDimension("x", 3)
        dataset.createVariable("v", kind, ("x",), fill_value=127)[:] = [0, 1, 127]

    made = Made(tmp_path, fill)
    attributes = made.attributes("v")
    assert attributes["flag_values"] == [0, 1, 127]
    assert attributes["flag_meanings"] == "clear_sky Cumulus missing"
    assert attributes["_nc_zarrfuse"]["enum"] == {"name": "cloud_t", "members": members}


def test_groups_and_all_kinds_of_dimensions(tmp_path: Path) -> None:
    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.createDimension("t", None)
        dataset.createDimension("unused", 4)
        dataset.createDimension("empty", 0)
        dataset.createVariable("none", "f4", ("empty", "t"))
        group = dataset.createGroup("a").createGroup("b c")
        group.createDimension("t", 2)
        group.note = "deep"
        group.createVariable("v", "i4", ("t", "unused"))[:] = np.arange(8).reshape(2, 4)
        dataset.createGroup("hollow")

    made = Made(tmp_path, fill)
    layout = made.json(".zattrs")["_nczarr_group"]
    assert layout["dimensions"]["t"] == {"size": 0, "unlimited": 1}
    assert layout["dimensions"]["unused"] == 4
    assert layout["groups"] == ["a", "hollow"]
    array = made.attributes("a/b c/v")["_nczarr_array"]
    assert array["dimension_references"] == ["/a/b c/t", "/unused"]
    root = zarr.open_group(made.store, mode="r")
    assert root["a/b c"].attrs["note"] == "deep"
    assert root["none"].shape == (0, 0)


def test_scalars(tmp_path: Path) -> None:
    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.createVariable("v", "f8", ())[...] = 3.5

    made = Made(tmp_path, fill)
    assert made.array("v")["shape"] == []
    assert (made.store / "v/0").is_file()


def test_attribute_types_and_texts(tmp_path: Path) -> None:
    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.setncattr_string("strings", ["a", "ü"])
        dataset.setncattr_string("string", "one")
        dataset.setncattr("text", "plain \n\t\"'\\ end")
        dataset.setncattr("unicode", "Grüße ☃")
        dataset.setncattr("u8", np.uint64(2**64 - 1))
        dataset.setncattr("short", np.array([1, 2], "i2"))
        dataset.setncattr("float", np.float32(0.1))
        dataset.setncattr("odd", np.array([math.nan, math.inf, -math.inf]))

    made = Made(tmp_path, fill)
    attributes = made.json(".zattrs")
    assert attributes["strings"] == ["a", "ü"]
    assert attributes["u8"] == 2**64 - 1
    kinds = attributes["_nczarr_attr"]["types"]
    wanted = {"strings": "|S2", "text": ">S1", "u8": "<u8", "short": "<i2", "float": "<f4"}
    assert {name: kinds[name] for name in wanted} == wanted
    assert "Grüße ☃".encode() in (made.store / ".zattrs").read_bytes()


def test_odd_names_and_their_order(tmp_path: Path) -> None:
    names = ["z last", "é", "ça", "a.b+c", "0", "50%", "c"]

    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.createDimension("x", 2)
        for index, name in enumerate(names):
            dataset.createVariable(name, "i4", ("x",))[:] = index

    made = Made(tmp_path, fill)
    stored = made.json(".zattrs")["_nczarr_group"]["arrays"]
    with netCDF4.Dataset(made.source) as dataset:
        assert stored == list(dataset.variables)


def test_edge_chunks_are_padded_with_the_fill_value(tmp_path: Path) -> None:
    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.createDimension("y", 5)
        dataset.createDimension("x", 7)
        variable = dataset.createVariable(
            "v", ">f4", ("y", "x"), fill_value=np.float32(-9), chunksizes=(2, 3), endian="big"
        )
        variable[:] = np.arange(35).reshape(5, 7)

    made = Made(tmp_path, fill, keep_min=1, box=64)
    assert made.array("v")["chunks"] == [2, 3]
    assert sorted(path.name for path in (made.store / "v/2").iterdir()) == ["0", "1", "2"]


def test_coordinates_attributes_stay_where_they_were(tmp_path: Path) -> None:
    made = Made(tmp_path, one("f4", [1.0], coordinates="lat lon", dtype="bool"))
    assert made.attributes("v")["coordinates"] == "lat lon"
    assert made.attributes("v")["dtype"] == "bool"


def test_netcdf_c_restores_types_and_unlimited_dimensions(tmp_path: Path) -> None:
    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.createDimension("t", None)
        dataset.createDimension("unused", 4)
        variable = dataset.createVariable("v", "f4", ("t",), fill_value=np.float32(-1))
        variable[0:3] = [1, 2, -1]
        variable.note = np.array([0, 5], "i2")

    made = Made(tmp_path, fill)
    with netCDF4.Dataset(f"file://{made.store}#mode=nczarr,file") as found:
        found.set_auto_maskandscale(False)
        assert found.dimensions["t"].isunlimited()
        assert len(found.dimensions["unused"]) == 4
        assert found["v"].note.dtype == np.dtype("i2")
        assert found["v"][...].tolist() == [1, 2, -1]


def test_gdal_reads_it(tmp_path: Path) -> None:
    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.createDimension("y", 4)
        dataset.createDimension("x", 5)
        dataset.createVariable("v", "i2", ("y", "x"))[:] = np.arange(20).reshape(4, 5)

    made = Made(tmp_path, fill)
    answer = subprocess.run(
        ["gdalinfo", "-stats", f'ZARR:"{made.store}":/v'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "STATISTICS_MAXIMUM=19" in answer.stdout


def test_nothing_private_is_written(tmp_path: Path) -> None:
    made = Made(tmp_path, one("i2", [1]))
    source = made.json(".zattrs")["zarrfuse:source"]
    assert set(source) == {"name", "size", "sha256", "tool", "time"}
    for path in made.store.rglob(".z*"):
        assert str(tmp_path).encode() not in path.read_bytes()
