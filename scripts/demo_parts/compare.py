"""Compare NetCDF files with the Zarr stores made of them: every variable, raw, bit for bit.

usage: compare.py FILE.nc STORE.zarr [FILE.nc STORE.zarr ...]

Raw: nothing is scaled, masked or decoded on either side. Shares no code with the converter. Exit
code 1 and a line for each variable that differs, in values, type or shape, or is missing.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import netCDF4
import numpy as np
import zarr


def main(arguments: Sequence[str]) -> int:
    if not arguments or len(arguments) % 2:
        print(__doc__, file=sys.stderr)
        return os.EX_USAGE
    values = size = differing = variables = 0
    for source, store in zip(arguments[::2], arguments[1::2], strict=True):
        for path, variable in raw_variables(source):
            found = difference(variable, zarr.open_group(store, mode="r"), path)
            _say(Path(source).name, path, variable, found)
            variables += 1
            values += variable.size
            size += variable.nbytes
            differing += found is not None
    if differing:
        print(f"{differing} of {variables} variables differ")
        return 1
    print(f"{values} values ({size} bytes) of {variables} variables compared: all identical")
    return 0


def raw_variables(source: str) -> Iterator[tuple[str, np.ndarray]]:
    """Every variable of the file by its path, groups included, as it is stored."""
    with netCDF4.Dataset(source) as dataset:
        dataset.set_auto_maskandscale(False)
        dataset.set_auto_chartostring(False)
        yield from _of_group(dataset, "")


def _of_group(group: netCDF4.Dataset, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for name, variable in group.variables.items():
        yield prefix + name, np.asarray(variable[...])
    for name, child in group.groups.items():
        yield from _of_group(child, f"{prefix}{name}/")


def difference(expected: np.ndarray, store: zarr.Group, path: str) -> str | None:
    """What is not the same in the store's array, in words; None if nothing is."""
    array = store.get(path)
    if not isinstance(array, zarr.Array):
        return "not in the store"
    found = np.asarray(array[...])
    if found.dtype.newbyteorder("=") != expected.dtype.newbyteorder("="):
        return f"{found.dtype} instead of {expected.dtype}"
    if found.shape != expected.shape:
        return f"shape {found.shape} instead of {expected.shape}"
    unequal = bits(found) != bits(expected)
    if unequal.any():
        return f"{int(unequal.any(axis=-1).sum())} of {expected.size} values differ"
    return None


def bits(values: np.ndarray) -> np.ndarray:
    """The bytes of each value in this machine's order, one row per value: NaN is equal to NaN."""
    native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    return native.reshape(-1, 1).view(np.uint8)


def _say(file: str, path: str, variable: np.ndarray, found: str | None) -> None:
    shape = " x ".join(map(str, variable.shape)) or "scalar"
    verdict = found or "identical"
    print(f"{file:14} {path:17} {variable.dtype!s:8} {shape:15} {verdict}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
