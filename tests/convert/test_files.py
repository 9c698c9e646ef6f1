"""Every real file that is at hand: equal by zarr-python and by xarray, or refused in words."""

from pathlib import Path

import pytest
import xarray as xr

from tests.support.netcdf import DATA, convert_to, real_files
from tests.support.oracles import (
    assert_same_in_xarray,
    assert_same_raw_attributes,
    assert_same_values,
)
from zarrfuse.errors import NotNetCDF, Unsupported

REFUSED = {
    "MOD09GA.A2008296.h14v17.006.2015181011753.hdf": (NotNetCDF, "HDF4"),
    "NEONDSTowerTemperatureData.hdf5": (Unsupported, "temperature.*'date'"),
}
#: xarray cannot decode these sources; the raw comparison stands alone.
UNDECODABLE = {"CRM032_test1.nc", "ref_tst_compounds.nc"}
FILES = real_files()
#: 2000 variables: opening them one by one takes its time.
SLOW = {"ref_hdf5_compat1.nc"}
CASES = [
    pytest.param(path, id=path.name, marks=[pytest.mark.slow] if path.name in SLOW else [])
    for path in FILES
]


def test_the_files_of_the_repository_are_there() -> None:
    assert len([path for path in FILES if path.parent == DATA or (DATA / path.name).exists()]) == 8


@pytest.mark.parametrize("source", CASES)
def test_equal_or_refused(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "out.zarr"
    if source.name in REFUSED:
        kind, words = REFUSED[source.name]
        with pytest.raises(kind, match=words):
            convert_to(source, store)
        assert not store.exists()
        return
    convert_to(source, store)
    assert assert_same_values(source, store) > 0
    assert_same_raw_attributes(source, store)
    decoded = assert_same_in_xarray(source, store, added=("flag_values", "flag_meanings"))
    assert decoded == (source.name not in UNDECODABLE)
    xr.open_zarr(store, chunks=None, mask_and_scale=False, decode_cf=False).load()


def test_the_file_that_xarray_cannot_write_opens(tmp_path: Path) -> None:
    """`_FillValue` and `missing_value` differ: `to_zarr` refuses it, and values would change."""
    convert_to(DATA / "sst.mnmean.nc", tmp_path / "sst.zarr")
    for mask in (True, False):
        with xr.open_zarr(tmp_path / "sst.zarr", mask_and_scale=mask, decode_cf=mask) as found:
            assert found.sst.dims == ("time", "lat", "lon")
            assert found.sst.load().notnull().any()


def test_groups_are_kept(tmp_path: Path) -> None:
    convert_to(DATA / "grouped.nc", tmp_path / "g.zarr")
    tree = xr.open_datatree(tmp_path / "g.zarr", engine="zarr")
    assert {"/", "/forecast", "/forecast/model"} == {node.path for node in tree.subtree}
