"""Recognises the order in which a program walks a chunk grid from the last chunks that it read.

Pure, and without a state: the caller keeps the trace, and decides whose walk it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zarrfuse.core.orders import Index, Order, Scale

#: Steps this close in an order are taken as one walk: zarr has up to 10 chunks in flight.
NEAR = 12
#: So many steps are looked at when a walk is recognised.
_STEPS = 8
#: Of the places between the first and the last step, so many must have been visited.
_DENSITY = 0.7
#: A box with more places for each step is not looked at closely: that is how random reads lie.
_SPARSE = 8


@dataclass(frozen=True, slots=True)
class Found:
    """An order that explains the last steps: of those, the first and the furthest place."""

    order: Order
    first: Index
    furthest: Index
    steps: tuple[Index, ...]


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
    places: list[Index] = []
    for length in lengths:
        if length > len(trace):
            break
        steps = trace[-length:]
        places = [*map(scale.place, steps[: length - len(places)]), *places]
        low, stride, counts = _lattice(places)
        volume = math.prod(counts)
        if volume > _SPARSE * lengths[-1]:
            break  # more steps only make it larger
        if volume > _SPARSE * length:
            continue
        score = _shuffled_fit(_lattice_ranks(scale, places, low, stride, counts))
        if score:
            order = _box_order(scale, 1 if score > 0 else -1, low, stride, counts)
            longest = _found(order, places, steps)
    return longest


def _lattice(places: Sequence[Index]) -> tuple[list[int], list[int], list[int]]:
    """The smallest lattice that holds all places: lowest corner, strides, counts."""
    low, stride, counts = [], [], []
    for values in zip(*places, strict=True):
        least = min(values)
        span = max(values) - least
        step = math.gcd(*[value - least for value in values]) if span > 1 else 1
        if step == span:  # one jump is no stride
            step = 1
        low.append(least)
        stride.append(step)
        counts.append(span // step + 1)
    return low, stride, counts


def _lattice_ranks(
    scale: Scale, places: Sequence[Index], low: list[int], stride: list[int], counts: list[int]
) -> list[int]:
    ranks = []
    moved = [axis for axis in scale.priority if counts[axis] > 1]
    for place in places:
        rank = 0
        for axis in moved:
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
        score = _shuffled_fit(ranks[-used:]) if 4 <= used <= len(ranks) else 0.0
        if score:
            return score, used
    if len(ranks) >= 3:
        first, second, third = ranks[-3:]
        if second - first == third - second and abs(third - second) == 1:
            return 3.0 * (third - second), 3
    return 0.0, 0


def _shuffled_fit(ranks: list[int]) -> float:
    """How well all of them form a walk."""
    used = len(ranks)
    density = used / (max(ranks) - min(ranks) + 1)
    if density < _DENSITY:
        return 0.0
    half = used // 2
    trend = (sum(ranks[-half:]) - sum(ranks[:half])) / half
    return math.copysign(density * used, trend) if abs(trend) >= used / 4 else 0.0
