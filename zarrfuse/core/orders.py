"""Orders in which a program may walk a chunk grid. Which one it walks, core/recognise finds out.

Pure. An order is a walk through a box of the grid, one axis fastest, up or down, each axis counted
as a number or as text (dask sorts its tasks by the key as a string: 9, 8, ... 2, 19, 18, ... 1, 0).
In key strings "." and "/" sort before digits, so the axes can be taken one by one.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

Index = tuple[int, ...]


@lru_cache(maxsize=4096)
def text_rank(value: int, count: int) -> int:
    """The place of `value` when 0 .. count - 1 are sorted as text."""
    if value == 0:
        return 0
    digits, rank, low = len(str(value)), 1, 1
    for length in range(1, len(str(count - 1)) + 1):
        if length < digits:  # shorter numbers that sort before, the beginnings of `value` included
            top = value // 10 ** (digits - length) + 1
        else:
            top = value * 10 ** (length - digits)
        rank += max(0, min(top, count) - low)
        low *= 10
    return rank


@lru_cache(maxsize=4096)
def text_value(rank: int, count: int) -> int:
    """The number at place `rank` when 0 .. count - 1 are sorted as text."""
    if rank == 0:
        return 0
    value, left = 1, rank - 1
    while left:
        below, low, high = 0, value, value + 1  # the numbers whose text begins with that of `value`
        while low < count:
            below += min(high, count) - low
            low, high = low * 10, high * 10
        if left >= below:
            value, left = value + 1, left - below
        else:
            value, left = value * 10, left - 1
    return value


@dataclass(frozen=True, slots=True)
class Scale:
    """How an index is counted: axes as numbers or as text, and which axis is the fastest."""

    shape: Index
    by_text: bool
    fastest: int
    #: The axes from the slowest to the fastest.
    priority: tuple[int, ...] = field(init=False, compare=False)
    #: What a step along each axis adds to the rank.
    weights: tuple[int, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        rest = (axis for axis in range(len(self.shape)) if axis != self.fastest)
        priority = (*rest, self.fastest)
        weights, weight = [1] * len(self.shape), 1
        for axis in reversed(priority):
            weights[axis] = weight
            weight *= self.shape[axis]
        object.__setattr__(self, "priority", priority)
        object.__setattr__(self, "weights", tuple(weights))

    @property
    def is_storage_order(self) -> bool:
        return self.fastest == len(self.shape) - 1

    def place(self, index: Index) -> Index:
        """Where an index lies, axis by axis."""
        return tuple(map(text_rank, index, self.shape)) if self.by_text else index

    def index(self, place: Index) -> Index:
        return tuple(map(text_value, place, self.shape)) if self.by_text else place


@dataclass(frozen=True, slots=True)
class Order:
    """A walk on a scale through the box `low` .. `high` (both included) in strides of `stride`.

    Everything is in places of the scale; `sign` is 1 for up and -1 for down.
    """

    scale: Scale
    sign: int
    low: Index
    high: Index
    stride: Index

    def after(self, place: Index) -> Index | None:
        """The next place of the walk; None at its end."""
        following = list(place)
        for axis in reversed(self.scale.priority):
            moved = following[axis] + self.sign * self.stride[axis]
            if self.low[axis] <= moved <= self.high[axis]:
                following[axis] = moved
                return tuple(following)
            following[axis] = self.low[axis] if self.sign > 0 else self.high[axis]
        return None

    def walk(self, place: Index) -> Iterator[Index]:
        """The places after `place`."""
        following = self.after(place)
        while following is not None:
            yield following
            following = self.after(following)


def scales_of(shape: Index) -> tuple[Scale, ...]:
    """The scales worth a try on this grid, the likeliest first."""
    long = [axis for axis in reversed(range(len(shape))) if shape[axis] > 1]
    texts = (False, True) if any(count > 10 for count in shape) else (False,)
    # Axes of length 1 change no order: with the last axis fastest, the last long one is as well.
    fastest = [len(shape) - 1, *long[1:]] if long else []
    return tuple(Scale(shape, by_text, axis) for axis in fastest for by_text in texts)


def ranks_of(scales: Sequence[Scale], index: Index) -> tuple[int, ...]:
    """The place of an index in a full walk on each scale, as one number."""
    texts = tuple(map(text_rank, index, scales[0].shape)) if any(s.by_text for s in scales) else ()
    return tuple(
        sum(map(operator.mul, texts if scale.by_text else index, scale.weights)) for scale in scales
    )
