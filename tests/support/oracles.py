"""Independent readers of what the converter made and of what it read: zarr-python, netCDF4."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
import zarr


def raw_variables(path: Path) -> Iterator[tuple[str, Any]]:
    """Every variable of every group, with its path, to be read raw."""
    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_maskandscale(False)
        dataset.set_auto_chartostring(False)
        yield from _variables(dataset, "")


def _variables(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, variable in group.variables.items():
        yield prefix + name, variable
    for name, child in group.groups.items():
        yield from _variables(child, f"{prefix}{name}/")


def assert_same_values(source: Path, store: Path) -> int:
    """Bit for bit, with dtype, shape and dimension names, by zarr-python; the number of arrays."""
    root = zarr.open_group(store, mode="r", zarr_format=2)
    count = 0
    for path, variable in raw_variables(source):
        array = root[path]
        assert isinstance(array, zarr.Array)
        dimensions = [item.name for item in variable.get_dims()]
        assert array.attrs["_ARRAY_DIMENSIONS"] == dimensions, path
        assert array.shape == variable.shape, path
        assert_same_bits(np.asarray(variable[...]), np.asarray(array[...]), path)
        count += 1
    return count


def assert_same_bits(expected: np.ndarray, found: np.ndarray, what: str) -> None:
    if expected.dtype.names is not None:
        assert expected.dtype.names == found.dtype.names, what
        for name in expected.dtype.names:
            assert_same_bits(expected[name], found[name], f"{what}.{name}")
    elif expected.dtype.kind in "OUT":
        assert found.astype(object).tolist() == expected.astype(object).tolist(), what
    else:
        assert found.dtype == expected.dtype, what
        assert found.tobytes() == expected.tobytes(), what


def assert_same_raw_attributes(source: Path, store: Path) -> None:
    """As netCDF4-python shows them against what zarr-python shows, arrays and the root."""
    root = zarr.open_group(store, mode="r", zarr_format=2)
    for path, variable in raw_variables(source):
        array = root[path]
        attributes = dict(array.attrs)
        for name in variable.ncattrs():
            value = variable.getncattr(name)
            if name == "_FillValue" and array.fill_value is not None:
                text = isinstance(value, str)
                _assert_same(value, array.fill_value.decode() if text else array.fill_value, path)
            elif not isinstance(value, np.void):
                _assert_same(value, attributes.get(name, []), f"{path}@{name}")
    with netCDF4.Dataset(source) as dataset:
        for name in dataset.ncattrs():
            _assert_same(dataset.getncattr(name), root.attrs.get(name, []), name)


def _assert_same(expected: Any, found: Any, what: str) -> None:
    if isinstance(expected, str):
        assert found == expected, what
        return
    wanted, shown = np.ravel(expected).tolist(), np.ravel(found).tolist()
    assert len(wanted) == len(shown), what
    for left, right in zip(wanted, shown, strict=True):
        both_nan = isinstance(left, float) and math.isnan(left) and math.isnan(right)
        assert both_nan or left == right, what


def assert_same_in_xarray(source: Path, store: Path, *, added: tuple[str, ...] = ()) -> bool:
    """Decoded by xarray, they are identical; False where xarray cannot decode the source.

    What JSON cannot carry is allowed: a float32 scale_factor comes back as float64, so decoded
    values may be float64, near the float32 ones. `added` are attributes of our own.
    """
    try:
        expected = xr.open_dataset(source, engine="netcdf4", cache=False).load()
    except (ValueError, TypeError):
        return False
    found = xr.open_zarr(store, chunks=None).load()
    assert found.attrs.pop("zarrfuse:source")["name"] == source.name
    expected.attrs = {k: v for k, v in expected.attrs.items() if not k.lower().startswith("_nc")}
    assert dict(found.sizes) == dict(expected.sizes)
    assert set(found.variables) == set(expected.variables)
    for name, left in expected.variables.items():
        right = found.variables[name]
        for extra in added:
            if extra not in left.attrs:
                right.attrs.pop(extra, None)
        scale = left.encoding.get("scale_factor", left.encoding.get("add_offset"))
        if isinstance(scale, np.float32) and left.dtype != right.dtype:
            assert left.attrs.keys() == right.attrs.keys(), name
            near = 1e-6 * float(np.nanmax(np.abs(left.values), initial=0))
            np.testing.assert_allclose(right.values, left.values, rtol=0, atol=near, err_msg=name)
        else:
            xr.testing.assert_identical(left, right)
    return True
