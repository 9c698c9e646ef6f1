"""Makes the data sets on the local disk, and the digests that a right answer has. Local only."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
import zarr.codecs
import zarr.errors
from numcodecs import Blosc

from . import patterns
from .datasets import BIG_FILE, GRID, STORE, VARIABLE, DataSet

_BIG_BYTES = 1 << 30
_BIG_PIECE = 1 << 24
_ENTRY_BYTES = 1000


def build(dataset: DataSet, place: Path) -> dict[str, str]:
    """Fill the local directory `place`; the digests by job."""
    return _BUILDERS[dataset.kind](dataset, place)


def _values(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """float32 noise: blosc gains little on it, so that bytes stored are bytes read."""
    values = np.empty(shape, dtype="f4")
    for t in range(shape[0]):
        generator = np.random.Generator(np.random.Philox(key=t))
        generator.standard_normal(dtype=np.float32, out=values[t])
    return values


def _build_store(dataset: DataSet, place: Path) -> dict[str, str]:
    values = _values(dataset.shape)
    _write_store(dataset, place / STORE, values)
    array = xr.DataArray(values)
    right = {f"scan {pattern}": patterns.scan(pattern, array) for pattern in dataset.scans}
    names = dataset.chunk_names()
    files = [(place / STORE / name).read_bytes() for name in names]
    for pattern in dataset.cats:
        order = patterns.chunk_order(pattern, names)
        right[f"cat {pattern}"] = patterns.digest((index, files[index]) for index in order)
    return right


def _write_store(dataset: DataSet, path: Path, values: np.ndarray[Any, Any]) -> None:
    names = ("time", "y", "x")
    group = zarr.open_group(str(path), mode="w", zarr_format=dataset.zarr_format)  # type: ignore[arg-type]
    for name, size in zip(names, dataset.shape, strict=True):
        _write_array(group, name, np.arange(size, dtype="f8"), (size,), (name,))
    _write_array(group, VARIABLE, values, dataset.chunks, names)
    with warnings.catch_warnings():
        # Not in the v3 specification yet; xarray writes and reads it all the same.
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(str(path))


def _write_array(
    group: Any,
    name: str,
    values: np.ndarray[Any, Any],
    chunks: tuple[int, ...],
    dimensions: tuple[str, ...],
) -> None:
    if group.metadata.zarr_format == 2:
        special: dict[str, Any] = {
            "compressors": Blosc(cname="zstd", clevel=3, shuffle=Blosc.SHUFFLE),
            "attributes": {"_ARRAY_DIMENSIONS": list(dimensions)},
        }
    else:
        codec = zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")
        special = {"compressors": codec, "dimension_names": dimensions}
    array = group.create_array(
        name, shape=values.shape, chunks=chunks, dtype=values.dtype, **special
    )
    array[...] = values


def _build_file(_dataset: DataSet, place: Path) -> dict[str, str]:
    path = place / BIG_FILE
    with path.open("wb") as stream:
        for number in range(_BIG_BYTES // _BIG_PIECE):
            generator = np.random.Generator(np.random.Philox(key=number))
            stream.write(generator.bytes(_BIG_PIECE))
    with path.open("rb") as stream:
        pieces = iter(lambda: stream.read(1 << 20), b"")
        sequential = patterns.digest(enumerate(pieces))
        offsets = patterns.random_offsets(_BIG_BYTES)
        small = patterns.digest((offset, _at(stream, offset)) for offset in offsets)
    return {"sequential": sequential, "random4k": small}


def _at(stream: Any, offset: int) -> bytes:
    stream.seek(offset)
    data: bytes = stream.read(4096)
    return data


def _build_entries(dataset: DataSet, place: Path) -> dict[str, str]:
    """The directory of a v2 array with `entries` chunks, 50 to a row of the grid."""
    array = place / GRID
    array.mkdir(parents=True)
    group = zarr.open_group(str(array.parent), mode="w", zarr_format=2)
    grid = (dataset.entries // 50, 50)
    group.create_array(VARIABLE, shape=grid, chunks=(1, 1), dtype="f4")
    for row, column in itertools.product(*map(range, grid)):
        (array / f"{row}.{column}").write_bytes(bytes(_ENTRY_BYTES))
    listed = f"{dataset.entries} entries, {dataset.entries * _ENTRY_BYTES} bytes"
    # .zarray is hidden from `ls`, and zarr writes .zattrs beside it.
    hidden = sum(entry.name.startswith(".") for entry in array.iterdir())
    return {"ls": listed, "find": f"{dataset.entries + hidden} files"}


_BUILDERS: Mapping[str, Callable[[DataSet, Path], dict[str, str]]] = {
    "store": _build_store,
    "file": _build_file,
    "entries": _build_entries,
}
