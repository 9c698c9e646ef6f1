"""Orders in which programs were seen to read chunks, and a reader that follows a plan."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zarrfuse.core.access import Readers, observe

Index = tuple[int, ...]


def row_major(shape: Index) -> list[Index]:
    return list(itertools.product(*map(range, shape)))


def dask_order(indices: Iterable[Index]) -> list[Index]:
    """Descending by the key as a string."""
    return sorted(indices, key=lambda index: "/".join(map(str, index)), reverse=True)


def groups_of_four(shape: Index) -> list[Index]:
    """A tree reduction along the first axis: four at a time, for one point after another."""
    starts = range(0, shape[0], 4)
    return [
        (at, *point)
        for point in reversed(row_major(shape[1:]))
        for start in reversed(starts)
        for at in reversed(range(start, min(start + 4, shape[0])))
    ]


def blocks_reversed(shape: Index, block: Index) -> list[Index]:
    """Blocks from the last to the first, in storage order inside each."""
    counts = tuple(-(-length // step) for length, step in zip(shape, block, strict=True))
    order: list[Index] = []
    for corner in reversed(row_major(counts)):
        axes = [
            range(at * step, min((at + 1) * step, length))
            for at, step, length in zip(corner, block, shape, strict=True)
        ]
        order += itertools.product(*axes)
    return order


def in_flight(order: Sequence[Index], count: int, seed: int = 1) -> list[Index]:
    """As `count` requests in flight arrive: every second one up to three too early."""
    rng = random.Random(seed)
    waiting: list[Index] = []
    arrived: list[Index] = []
    for index in order:
        waiting.append(index)
        if len(waiting) == count:
            at = 0 if rng.random() < 0.5 else rng.randrange(min(count, 4))
            arrived.append(waiting.pop(at))
    return arrived + waiting


def interleaved(*orders: Sequence[Index], seed: int = 1) -> list[Index]:
    """Several readers at once, at the same pace on the average."""
    rng = random.Random(seed)
    left = [list(reversed(order)) for order in orders]
    mixed: list[Index] = []
    while any(left):
        mixed.append(rng.choice([order for order in left if order]).pop())
    return mixed


@dataclass(frozen=True)
class Outcome:
    """What a plan was worth: of the first reads after the warm-up, the part that was planned."""

    hits: float
    unread: int
    read: int
    readers: Readers


def follow(
    reads: Iterable[Index], shape: Index, *, max_chunks: int = 64, warm_up: int = 8
) -> Outcome:
    """Reads in this order with a cache that fetches what is planned; checks every plan."""
    readers = Readers.of(shape)
    planned: set[Index] = set()
    read: dict[Index, None] = {}
    history: deque[Index] = deque(maxlen=30)
    hits = counted = 0
    for index in reads:
        if index not in read and len(read) >= warm_up:
            counted += 1
            hits += index in planned
        if index not in readers.trace:  # a repeat is neutral: it does not make the chunk younger
            history.append(index)
        readers, plan = observe(readers, index, shape, max_chunks)
        read[index] = None
        assert not set(plan.fetch) & set(history)
        assert len(set(plan.fetch)) == len(plan.fetch)
        assert all(
            0 <= at < count
            for wanted in plan.fetch
            for at, count in zip(wanted, shape, strict=True)
        )
        assert len(readers.planned) <= max_chunks
        planned.update(plan.fetch)
    return Outcome(hits / max(counted, 1), len(planned - read.keys()), len(read), readers)
