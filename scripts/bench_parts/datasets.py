"""What is read: the shapes and names of the data sets, and how their values are made. Local only.

Each set lies in a directory of its own and, byte for byte the same, in a bucket of its own; the
digests that a right answer has are kept beside it.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
import zarr.codecs
import zarr.errors
from numcodecs import Blosc

from . import patterns

STORE = "data.zarr"
VARIABLE = "v"
BIG_FILE = "big.bin"
GRID = f"grid.zarr/{VARIABLE}"
_BIG_BYTES = 1 << 30
_BIG_PIECE = 1 << 24
_ENTRY_BYTES = 1000


@dataclass(frozen=True)
class DataSet:
    """One set. `build` fills its local directory and returns the digests by job.

    `rows_only`: in the bucket only the rows of the listing exist, the objects do not.
    """

    name: str
    title: str
    build: Callable[[DataSet, Path], dict[str, str]]
    shape: tuple[int, ...] = ()
    chunks: tuple[int, ...] = ()
    zarr_format: int = 3
    scans: tuple[str, ...] = ()
    cats: tuple[str, ...] = ()
    entries: int = 0
    rows_only: bool = False
    #: Part of the name: a changed set must not be mixed with what an earlier run left.
    version: int = 2

    @property
    def bucket(self) -> str:
        return f"bench-{self.name}-{self.version}"

    def chunk_names(self) -> list[str]:
        """Of the variable's chunks below the store, in row-major order."""
        counts = [-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True)]
        indices = itertools.product(*map(range, counts))
        if self.zarr_format == 3:
            return [f"{VARIABLE}/c/" + "/".join(map(str, index)) for index in indices]
        return [f"{VARIABLE}/" + ".".join(map(str, index)) for index in indices]


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
    files = [(place / STORE / name).read_bytes() for name in dataset.chunk_names()]
    everything = patterns.digest(enumerate(files))
    return right | {f"cat {pattern}": everything for pattern in dataset.cats}


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


_LOOP, _CHUNK = (400, 320, 480), (1, 320, 480)
_CATS = ("row", "reverse", "random")
ALL: dict[str, DataSet] = {
    dataset.name: dataset
    for dataset in (
        DataSet(
            "v3", "400 chunks of 0.6 MB, Zarr v3", _build_store,
            scans=("row", "reverse", "random", "dask", "series"), cats=_CATS,
            shape=_LOOP, chunks=_CHUNK,
        ),
        DataSet(
            "v2", "400 chunks of 0.6 MB, Zarr v2", _build_store,
            zarr_format=2, scans=("row",), cats=("row",), shape=_LOOP, chunks=_CHUNK,
        ),
        DataSet(
            "tiles", "16 times 5 x 5 chunks of 0.6 MB, Zarr v3", _build_store,
            shape=(16, 1600, 2400), chunks=(1, 320, 480), scans=("tiles",),
        ),
        DataSet(
            "small", "10 000 chunks of 20 kB, Zarr v3", _build_store,
            shape=(10_000, 50, 100), chunks=(1, 50, 100), scans=("small",),
        ),
        DataSet("file", "one file of 1 GiB", _build_file),
        DataSet(
            "list5000", "a directory of 5 000 objects", _build_entries,
            entries=5_000, version=1,
        ),
        DataSet(
            "list50000", "a directory of 50 000 rows of a listing", _build_entries,
            entries=50_000, rows_only=True, version=1,
        ),
    )
}  # fmt: skip
