"""Chunk keys to chunk indices and back, relative to the array's own prefix.

Pure. From the Zarr specifications v2 (`1.2`, `1/2`) and v3 (`c/1/2`, or as v2); a key that no
implementation would write (leading zeros, other digits, outside of the grid) is no chunk key.
"""

from __future__ import annotations

from zarrfuse.core.zarr.metadata import ArrayGrid

ChunkIndex = tuple[int, ...]

#: More than any 64-bit length has.
_MAX_DIGITS = 19


def key_of(grid: ArrayGrid, index: ChunkIndex) -> str:
    """The key of a chunk, without the array's prefix. The index must lie in the grid."""
    encoding = grid.encoding
    parts = [str(number) for number in index]
    if encoding.prefix:
        parts.insert(0, encoding.prefix)
    return encoding.separator.join(parts) if parts else "0"


def index_of(grid: ArrayGrid, text: str) -> ChunkIndex | None:
    """The chunk that a key below the array names; None if it names none of this grid."""
    encoding = grid.encoding
    if not grid.grid_shape:
        return () if text == (encoding.prefix or "0") else None
    parts = text.split(encoding.separator)
    if encoding.prefix and parts.pop(0) != encoding.prefix:
        return None
    if len(parts) != len(grid.grid_shape):
        return None
    numbers = tuple(
        number
        for part, count in zip(parts, grid.grid_shape, strict=True)
        if (number := _number(part)) is not None and number < count
    )
    return numbers if len(numbers) == len(parts) else None


def _number(part: str) -> int | None:
    if not part.isascii() or not part.isdigit() or len(part) > _MAX_DIGITS:
        return None
    return None if part[0] == "0" and part != "0" else int(part)
