"""How each variable is cut into chunks, and in which boxes it is read. Pure arithmetic.

HDF5 chunks of a good size are kept, small ones are merged by whole factors, what has no chunks is
split along its slowest dimension: so each source chunk is read and inflated once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from zarrfuse.convert.model import Variable

KIB, MIB = 1024, 1024**2

#: Chunks of a variable, as counts of values per dimension.
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What counts as a good chunk, uncompressed (facts: 1 to 16 MiB read well over a network)."""

    keep_min: int = 512 * KIB
    keep_max: int = 16 * MIB
    target: int = 8 * MIB
    #: A store of more objects is slow to list, copy and delete.
    max_objects: int = 100_000
    #: Chunks are not made larger than this for the sake of their number; blosc ends at 2 GiB.
    limit: int = 512 * MIB
    #: Values of one box in memory, unless a single chunk is larger.
    box: int = 64 * MIB

    def doubled(self) -> Sizes:
        """For stores that would have too many objects."""
        return Sizes(
            2 * self.keep_min,
            2 * self.keep_max,
            2 * self.target,
            self.max_objects,
            self.limit,
            self.box,
        )


@dataclass(frozen=True, slots=True)
class ArrayPlan:
    """`chunks` has the rank of the variable; `unit` is the smallest box that is read at once."""

    chunks: Shape
    unit: Shape


DEFAULT_SIZES = Sizes()


def plan_store(
    variables: Mapping[str, Variable], sizes: Sizes = DEFAULT_SIZES
) -> dict[str, ArrayPlan]:
    """A plan for each variable, with chunks large enough that the store stays countable."""
    while True:
        plans = {path: plan_array(variable, sizes) for path, variable in variables.items()}
        many = sum(chunk_count(variables[path].shape, plans[path].chunks) for path in plans)
        if many <= sizes.max_objects or 2 * sizes.target > sizes.limit:
            return plans
        sizes = sizes.doubled()


def plan_array(variable: Variable, sizes: Sizes = DEFAULT_SIZES) -> ArrayPlan:
    """Chunks of one variable; its own HDF5 chunks decide, where it has some."""
    shape, item = variable.shape, variable.item_bytes
    if not shape:
        return ArrayPlan((), ())
    if variable.is_coordinate and variable.raw_bytes <= sizes.target:
        whole = _clipped(shape, shape)
        return ArrayPlan(whole, whole)
    if variable.hdf5_chunks is None:
        chunks = split(shape, item, sizes.target)
        return ArrayPlan(chunks, chunks)
    native = _clipped(variable.hdf5_chunks, shape)
    size = math.prod(native) * item
    if size > sizes.keep_max:
        return ArrayPlan(_divided(native, item, sizes.keep_max), native)
    chunks = native if size >= sizes.keep_min else merge(shape, native, item, sizes.target)
    return ArrayPlan(chunks, chunks)


def split(shape: Shape, item: int, target: int) -> Shape:
    """The whole shape, cut along its slowest dimensions until a piece has at most `target` bytes.

    Pieces are of even length: 10 in pieces of at most 6 is 5 and 5.
    """
    chunks = [max(size, 1) for size in shape]
    for axis in range(len(chunks)):
        inner = math.prod(chunks[axis + 1 :]) * item
        if inner <= target:
            chunks[axis] = _even(chunks[axis], max(target // inner, 1))
            break
        chunks[axis] = 1
    return tuple(chunks)


def merge(shape: Shape, chunks: Shape, item: int, target: int) -> Shape:
    """`chunks` times whole factors, fastest dimension first, up to `target` bytes.

    What starts below half the target ends between half and all of it, or as the whole variable.
    """
    merged = list(chunks)
    for axis in reversed(range(len(shape))):
        room = target // (math.prod(merged) * item)
        pieces = -(-shape[axis] // merged[axis])
        if room >= 2 and pieces >= 2:
            merged[axis] *= _even(pieces, room)
    return tuple(merged)


def chunk_count(shape: Shape, chunks: Shape) -> int:
    """How many objects an array of this shape becomes."""
    return math.prod(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True))


def boxes(shape: Shape, plan: ArrayPlan, item: int, budget: int) -> Iterator[tuple[slice, ...]]:
    """Boxes of whole chunks that cover the array in row-major order, each value once.

    A box is one read: as many units along the fastest dimensions as fit into `budget` bytes.
    """
    if 0 in shape:
        return
    step = list(plan.unit)
    for axis in reversed(range(len(shape))):
        room = max(budget // max(math.prod(step) * item, 1), 1)
        step[axis] *= min(room, -(-shape[axis] // step[axis]))
        if step[axis] < shape[axis]:
            break
    yield from tiles([(0, size) for size in shape], step)


def tiles(spans: Sequence[tuple[int, int]], step: Iterable[int]) -> Iterator[tuple[slice, ...]]:
    """The half-open spans, cut into steps from their starts, in row-major order."""
    steps = list(step)
    if not spans:
        yield ()
        return
    (start, stop), width = spans[0], steps[0]
    for begin in range(start, stop, width):
        for rest in tiles(spans[1:], steps[1:]):
            yield (slice(begin, min(begin + width, stop)), *rest)


def _clipped(chunks: Shape, shape: Shape) -> Shape:
    """No longer than the variable, and never 0, which Zarr does not allow."""
    return tuple(max(1, min(chunk, size)) for chunk, size in zip(chunks, shape, strict=True))


def _even(length: int, longest: int) -> int:
    return -(-length // -(-length // longest))


def _divided(chunks: Shape, item: int, most: int) -> Shape:
    """Cut into whole parts, slowest dimension first, so that no part spans two HDF5 chunks."""
    parts = list(chunks)
    for axis in range(len(parts)):
        rest = math.prod(parts) // parts[axis] * item
        fitting = [n for n in _divisors(parts[axis]) if n * rest <= most]
        parts[axis] = max(fitting, default=1)
        if fitting:
            break
    return tuple(parts)


def _divisors(number: int) -> Iterator[int]:
    for low in range(1, math.isqrt(number) + 1):
        if number % low == 0:
            yield from {low, number // low}
