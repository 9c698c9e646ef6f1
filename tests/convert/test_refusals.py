"""What is no NetCDF, or what Zarr cannot hold: the right error, in words, and no object left.

Through the worker process, as the drop box does it.
"""

from collections.abc import Callable
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import pytest

from tests.support.netcdf import DATA, generate, small_classic
from tests.support.publishing import publish
from zarrfuse.errors import ConversionError, NotNetCDF, Unsupported
from zarrfuse.store.base import list_all
from zarrfuse.store.memory import MemoryStore

Fill = Callable[[netCDF4.Dataset], None]


def refused(source: Path, kind: type[ConversionError], words: str, name: str = "x.nc") -> str:
    store = MemoryStore()
    with pytest.raises(kind, match=words) as caught:
        publish(store, source, name=name)
    assert type(caught.value) is kind
    assert list_all(store, "") == []
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    assert str(source.parent) not in message
    return message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello, world\n", "text"),
        (b"\x0e\x03\x13\x01" + bytes(3000), "HDF4"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "truncated|damaged"),
    ],
)
def test_no_netcdf(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "spooled.bin"
    path.write_bytes(data)
    refused(path, NotNetCDF, words)


@pytest.mark.parametrize("model", ["NETCDF3_CLASSIC", "NETCDF3_64BIT_DATA", "NETCDF4"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_truncated(tmp_path: Path, model: str, part: float) -> None:
    path = small_classic(tmp_path / "a", model)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    refused(path, NotNetCDF, "truncated")


def test_the_file_that_crashes_libhdf5() -> None:
    refused(DATA / "NEONDSTowerTemperatureData.hdf5", Unsupported, "temperature.*'date'")


def test_damaged_inside(tmp_path: Path) -> None:
    """A compressed chunk whose bytes were overwritten: HDF5 sees it when it inflates."""

    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.createDimension("x", 20000)
        noise = np.random.default_rng(1).integers(0, 9, 20000)
        dataset.createVariable("v", "i4", ("x",), zlib=True)[:] = noise

    path = generate(tmp_path / "a.nc", fill)
    data = bytearray(path.read_bytes())
    middle = len(data) - 3000
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)
    refused(path, NotNetCDF, "'v' cannot be read")


def test_variable_length_numbers(tmp_path: Path) -> None:
    def fill(dataset: netCDF4.Dataset) -> None:
        kind = dataset.createVLType("i4", "ragged")
        dataset.createDimension("x", 2)
        dataset.createGroup("g").createVariable("v", kind, ("x",))

    refused(generate(tmp_path / "a.nc", fill), Unsupported, "variable 'g/v' holds variable-length")


@pytest.mark.parametrize("name", [".zarray", ".zgroup", "zarr.json"])
def test_names_that_mean_something_to_zarr(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file[name] = [1, 2]
    refused(path, Unsupported, "name|NetCDF readers cannot see")


def test_opaque_reference_and_half_precision(tmp_path: Path) -> None:
    makers: dict[str, Callable[[h5py.File], None]] = {
        "opaque data": lambda f: f.create_dataset("v", data=np.zeros(2, h5py.opaque_dtype("V5"))),
        "references": lambda f: f.create_dataset("v", (2,), h5py.ref_dtype),
        "16-bit": lambda f: f.create_dataset("v", data=np.zeros(2, "f2")),
        "no shape": lambda f: f.create_dataset("v", data=h5py.Empty("f4")),
    }
    for index, (words, make) in enumerate(makers.items()):
        path = tmp_path / f"{index}.h5"
        with h5py.File(path, "w") as file:
            make(file)
        refused(path, Unsupported, f"'v'.*{words}")


def test_attributes_that_zarr_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["v"] = [1, 2]
        file["v"].attrs["pointer"] = file["v"].ref
    refused(path, Unsupported, "attribute 'pointer' of variable 'v'")


def test_no_other_file_is_read(tmp_path: Path) -> None:
    """HDF5 can point at any file of the daemon's machine; its content must not be published."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"password")
    outside = tmp_path / "outside.h5"
    with h5py.File(outside, "w") as file:
        file["v"] = [1, 2]
    makers: list[Callable[[h5py.File], object]] = [
        lambda f: f.create_dataset("v", (8,), "u1", external=[(str(secret), 0, 8)]),
        lambda f: f.__setitem__("v", h5py.ExternalLink(str(outside), "v")),
        lambda f: f.create_virtual_dataset("v", _layout(outside)),
    ]
    for index, make in enumerate(makers):
        path = tmp_path / f"{index}.h5"
        with h5py.File(path, "w") as file:
            make(file)
        refused(path, Unsupported, "'v'.* another file")


def _layout(outside: Path) -> h5py.VirtualLayout:
    layout = h5py.VirtualLayout(shape=(2,), dtype="i8")
    layout[:] = h5py.VirtualSource(str(outside), "v", shape=(2,))
    return layout


def test_a_group_that_contains_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("g")
        group["again"] = group
    refused(path, Unsupported, "contains itself")


def test_a_store_made_into_netcdf_again(tmp_path: Path) -> None:
    def fill(dataset: netCDF4.Dataset) -> None:
        dataset.setncattr("zarrfuse:source", "x")

    refused(generate(tmp_path / "a.nc", fill), Unsupported, "zarrfuse:source")


def test_the_name_is_the_users(tmp_path: Path) -> None:
    path = tmp_path / "0123456789abcdef.spool"
    path.write_bytes(b"text")
    message = refused(path, NotNetCDF, "text", name="Ozon Jänner.nc")
    assert "0123456789abcdef" not in message
