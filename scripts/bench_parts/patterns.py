"""The orders in which values and chunk files are read, and the digest of what was read.

Pure: over an array-like, or over indices. The expected digests come from these same functions over
the values in memory, so a benchmark of wrong bytes cannot look fast.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import xxhash

#: One block of values, and the number of its place, which goes into the digest.
Blocks = Iterator[tuple[int, Any]]

SMALL_STEPS = 100
_SEED = 20261123
_MASK = (1 << 64) - 1


def digest(blocks: Iterable[tuple[int, Any]]) -> str:
    """Of blocks of values or bytes with their places; the order in which they come is free."""
    total = 0
    for place, block in blocks:
        data = block if isinstance(block, bytes) else np.ascontiguousarray(block).data
        total = (total + xxhash.xxh3_64_intdigest(data, seed=place)) & _MASK
    return f"{total:016x}"


def at_random(count: int) -> list[int]:
    """A quarter of the indices, at random, the same in every run.

    Not all of them: then whatever was fetched ahead would be read some time, and cost nothing.
    """
    return random.Random(_SEED).sample(range(count), max(1, count // 4))


def _row(v: Any) -> Blocks:
    """A Python loop over time: one chunk in flight."""
    for t in range(v.shape[0]):
        yield t, v[t].values


def _reverse(v: Any) -> Blocks:
    for t in reversed(range(v.shape[0])):
        yield t, v[t].values


def _random(v: Any) -> Blocks:
    for t in at_random(v.shape[0]):
        yield t, v[t].values


def _whole(v: Any) -> Blocks:
    """All at once; where `v` is a dask array, dask chooses the order."""
    yield from enumerate(v.values)


def _series(v: Any) -> Blocks:
    """Every time at one point: zarr keeps several chunks in flight."""
    yield 0, v[:, v.shape[1] // 2, v.shape[2] // 2].values


def _tiles(v: Any) -> Blocks:
    """All times of one 2-D tile after the other; a tile is 1/5 by 1/5 of the field."""
    height, width = v.shape[1] // 5, v.shape[2] // 5
    for number in range(25):
        y, x = number // 5 * height, number % 5 * width
        yield number, v[:, y : y + height, x : x + width].values


def _steps(v: Any) -> Blocks:
    """A hundred times at once, for many small chunks."""
    for t in range(0, v.shape[0], SMALL_STEPS):
        yield t, v[t : t + SMALL_STEPS].values


SCANS: dict[str, Callable[[Any], Blocks]] = {
    "row": _row,
    "reverse": _reverse,
    "random": _random,
    "dask": _whole,
    "series": _series,
    "tiles": _tiles,
    "small": _steps,
}


def scan(pattern: str, v: Any) -> str:
    """Read `v` in this order; the digest of what came."""
    return digest(SCANS[pattern](v))


def chunk_order(pattern: str, names: list[str]) -> list[int]:
    """In which order the chunk files are read; `names` are in row-major order.

    `reverse` is dask's: descending in the string of the key; `random` is a part of them.
    """
    if pattern == "random":
        return at_random(len(names))
    order = range(len(names))
    if pattern == "reverse":
        return sorted(order, key=lambda index: names[index], reverse=True)
    return list(order)


def random_offsets(size: int, *, count: int = 200, block: int = 4096) -> list[int]:
    """Places for small random reads of a large file, the same in every run."""
    chosen = random.Random(_SEED)
    return [chosen.randrange(0, size // block) * block for _ in range(count)]
