"""Orders in which a program may walk a chunk grid, and how one is recognised from a few steps.

Pure. An order is a walk through a box of the grid, one axis fastest, up or down, each axis counted
as a number or as text (dask sorts its tasks by the key as a string: 9, 8, ... 2, 19, 18, ... 1, 0).
In key strings "." and "/" sort before digits, so the axes can be taken one by one.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

Index = tuple[int, ...]

#: Steps this close in an order are taken as one walk: zarr has up to 10 chunks in flight.
NEAR = 12
#: So many steps are looked at when a walk is recognised.
_STEPS = 8
#: Of the places between the first and the last step, so many must have been visited.
_DENSITY = 0.7
#: A box with more places for each step is not looked at closely: that is how random reads lie.
_SPARSE = 8


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


@dataclass(frozen=True, slots=True)
class Found:
    """An order that explains the last steps: of those, the first and the furthest place."""

    order: Order
    first: Index
    furthest: Index
    steps: tuple[Index, ...]


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


def along_full_axes(
    scales: Sequence[Scale], trace: Sequence[Index], ranks: Sequence[tuple[int, ...]]
) -> Found | None:
    """The order through whole axes that the last steps of `trace` near its end follow best."""
    best: tuple[float, int, list[Index]] | None = None
    for number, column in enumerate(zip(*ranks, strict=True)):
        low, high = column[-1] - NEAR, column[-1] + NEAR
        near = [at for at, rank in enumerate(column) if low <= rank <= high][-_STEPS:]
        if len(near) < 3:
            continue
        score, used = _fit([column[at] for at in near])
        if score and (best is None or abs(score) > abs(best[0])):
            best = (score, number, [trace[at] for at in near[-used:]])
    if best is None:
        return None
    score, number, steps = best
    return _full_order(scales[number], 1 if score > 0 else -1, steps)


def resumed(
    order: Order, number: int, trace: Sequence[Index], ranks: Sequence[tuple[int, ...]]
) -> Found | None:
    """A known kind of walk, begun anew elsewhere: two steps that follow each other will do.

    `number` is the place of the order's scale in the ranks.
    """
    here = ranks[-1][number]
    for at in range(len(ranks) - 2, -1, -1):
        if 0 < (here - ranks[at][number]) * order.sign <= 2:
            return _full_order(order.scale, order.sign, [trace[at], trace[-1]])
    return None


def _full_order(scale: Scale, sign: int, steps: list[Index]) -> Found:
    places = [scale.place(step) for step in steps]
    low, high = [0] * len(scale.shape), [count - 1 for count in scale.shape]
    turned = sum(min(values) < max(values) for values in zip(*places, strict=True)) > 1
    if not scale.is_storage_order and not turned:  # a line; whether others follow is not known
        for axis, value in enumerate(places[0]):
            if axis != scale.fastest:
                low[axis] = high[axis] = value
    order = Order(scale, sign, tuple(low), tuple(high), (1,) * len(low))
    return _found(order, places, steps)


def inside_box(scale: Scale, trace: Sequence[Index], lengths: Sequence[int]) -> Found | None:
    """The walk through a part of the grid, or in strides, that the last steps of `trace` form.

    As many steps as one of `lengths` (ascending) says; the longest that fits proves the most.
    Faster axes keep the range that was seen; the slowest that moved, and those above it, go on.
    """
    longest = None
    for length in lengths:
        if length > len(trace):
            break
        steps = trace[-length:]
        places = [scale.place(step) for step in steps]
        low, stride, counts = _lattice(places)
        volume = math.prod(counts)
        if volume > _SPARSE * lengths[-1]:
            break  # more steps only make it larger
        if volume > _SPARSE * length:
            continue
        score, used = _fit(_lattice_ranks(scale, places, low, stride, counts))
        if score and used >= min(length, _STEPS):
            order = _box_order(scale, 1 if score > 0 else -1, low, stride, counts)
            longest = _found(order, places, steps)
    return longest


def _lattice(places: Sequence[Index]) -> tuple[list[int], list[int], list[int]]:
    """The smallest lattice that holds all places: lowest corner, strides, counts."""
    low, stride, counts = [], [], []
    for values in zip(*places, strict=True):
        least, most = min(values), max(values)
        step = 1
        if least < most:
            step = math.gcd(*[value - least for value in values])
            if step == most - least:  # one jump is no stride
                step = 1
        low.append(least)
        stride.append(step)
        counts.append((most - least) // step + 1)
    return low, stride, counts


def _lattice_ranks(
    scale: Scale, places: Sequence[Index], low: list[int], stride: list[int], counts: list[int]
) -> list[int]:
    ranks = []
    for place in places:
        rank = 0
        for axis in scale.priority:
            rank = rank * counts[axis] + (place[axis] - low[axis]) // stride[axis]
        ranks.append(rank)
    return ranks


def _box_order(
    scale: Scale, sign: int, low: list[int], stride: list[int], counts: list[int]
) -> Order:
    high = [least + step * (n - 1) for least, step, n in zip(low, stride, counts, strict=True)]
    for axis in scale.priority:
        if sign > 0:
            high[axis] = scale.shape[axis] - 1
        else:
            low[axis] %= stride[axis]
        if counts[axis] > 1:
            break
    return Order(scale, sign, tuple(low), tuple(high), tuple(stride))


def _found(order: Order, places: Sequence[Index], steps: Sequence[Index]) -> Found:
    def key(place: Index) -> list[int]:
        return [order.sign * place[axis] for axis in order.scale.priority]

    return Found(order, min(places, key=key), max(places, key=key), tuple(steps))


def _fit(ranks: list[int]) -> tuple[float, int]:
    """How well the last of `ranks` form a walk, 0 if not, negative if downwards; and how many do.

    Three must follow each other exactly; more may be shuffled, as requests in flight are.
    """
    for used in dict.fromkeys((len(ranks), 6, 4)):
        if 4 <= used <= len(ranks):
            last = ranks[-used:]
            density = used / (max(last) - min(last) + 1)
            half = used // 2
            trend = (sum(last[-half:]) - sum(last[:half])) / half
            if density >= _DENSITY and abs(trend) >= used / 4:
                return math.copysign(density * used, trend), used
    if len(ranks) >= 3:
        first, second, third = ranks[-3:]
        if second - first == third - second and abs(third - second) == 1:
            return 3.0 * (third - second), 3
    return 0.0, 0
