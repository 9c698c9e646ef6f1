"""Where a listing of an array's chunks is cut into parts: places in the sort order of the keys.

Pure. In key strings "." and "/" sort before digits, so the axes can be taken one by one, each
counted as text.
"""

from __future__ import annotations

from zarrfuse.core.orders import text_value
from zarrfuse.core.zarr.keys import key_of
from zarrfuse.core.zarr.metadata import ArrayGrid

#: More places than this are not worth their time, and a grid may have any number of chunks.
_MAX_SPLITS = 5_000


def splits_of(grid: ArrayGrid, every: int) -> list[str] | None:
    """The keys, sorted, that have a multiple of `every` chunks up to and including them, if no one
    is absent; without the array's prefix. None where there would be too many."""
    if grid.count > every * _MAX_SPLITS:
        return None
    return [_key_at(grid, place - 1) for place in range(every, grid.count, every)]


def _key_at(grid: ArrayGrid, place: int) -> str:
    index = []
    for count in reversed(grid.grid_shape):
        place, rank = divmod(place, count)
        index.append(text_value(rank, count))
    return key_of(grid, tuple(reversed(index)))
