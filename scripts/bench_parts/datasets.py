"""What is read: the shapes and names of the data sets. Pure data; `build` makes them.

Each set lies in a directory of its own and, byte for byte the same, in a bucket of its own; the
digests that a right answer has are kept beside it. Imports nothing that a small job would wait for.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

STORE = "data.zarr"
VARIABLE = "v"
BIG_FILE = "big.bin"
GRID = f"grid.zarr/{VARIABLE}"


@dataclass(frozen=True)
class DataSet:
    """One set. `kind` is what it consists of: a Zarr store, one file, or entries of a directory.

    `rows_only`: in the bucket only the rows of the listing exist, the objects do not.
    """

    name: str
    title: str
    kind: str
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


_LOOP, _CHUNK = (400, 320, 480), (1, 320, 480)
_CATS = ("row", "reverse", "random")
ALL: dict[str, DataSet] = {
    dataset.name: dataset
    for dataset in (
        DataSet(
            "v3", "400 chunks of 0.6 MB, Zarr v3", "store",
            scans=("row", "reverse", "random", "dask", "series"), cats=_CATS,
            shape=_LOOP, chunks=_CHUNK, version=3,
        ),
        DataSet(
            "v2", "400 chunks of 0.6 MB, Zarr v2", "store",
            zarr_format=2, scans=("row",), cats=("row",), shape=_LOOP, chunks=_CHUNK,
        ),
        DataSet(
            "tiles", "16 times 5 x 5 chunks of 0.6 MB, Zarr v3", "store",
            shape=(16, 1600, 2400), chunks=(1, 320, 480), scans=("tiles",),
        ),
        DataSet(
            "small", "10 000 chunks of 20 kB, Zarr v3", "store",
            shape=(10_000, 50, 100), chunks=(1, 50, 100), scans=("small",),
        ),
        DataSet("file", "one file of 1 GiB", "file"),
        DataSet(
            "list5000", "a directory of 5 000 objects", "entries",
            entries=5_000, version=1,
        ),
        DataSet(
            "list50000", "a directory of 50 000 rows of a listing", "entries",
            entries=50_000, rows_only=True, version=1,
        ),
    )
}  # fmt: skip
