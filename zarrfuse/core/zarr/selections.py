"""What else of a shard a program is about to read: the rest of the box that it has selected.

zarr-python reads the inner chunks of one selection of a shard in no order at all (that of a Python
set), so that no walk can be recognised; but they fill a box. Pure: counts inner chunks and reads,
never bytes or seconds. What wrong guesses cost is bounded by a credit, as in core/access.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import add, ge, le, mul, neg

from cachetools import LRUCache

from zarrfuse.core.zarr.metadata import Shape
from zarrfuse.core.zarr.shards import InnerGrid

#: Shards of one array whose selections are remembered: zarr has up to 10 in flight.
_MAX_SHARDS = 32
#: Guesses that may be open or lost, and what each read pays back. core/access takes 15 % for its
#: own guesses; together they stay below 20 %.
CREDIT = 16.0
CREDIT_PER_READ = 0.05
#: What a guess that was right pays back beyond what it took: who was out of credit after a change
#: of ways, and is foreseeable again, recovers.
CREDIT_PER_HIT = 0.1
#: So many more, where chance is as good as excluded.
MORE_IF_SURE = 48.0
#: How likely as many reads at random would have kept to as small a part of the shard.
_LIKELY, _SURE = 0.02, 5e-4
#: Larger boxes are not guessed at: that is nearly all of a large shard.
_MAX_BOX = 4096


@dataclass(frozen=True, slots=True)
class _Box:
    """From `low` to `high`, both inside."""

    low: Shape
    high: Shape

    def around(self, index: Shape) -> _Box:
        """With this place in it."""
        return _Box(tuple(map(min, self.low, index)), tuple(map(max, self.high, index)))

    def moved(self, by: Shape) -> _Box:
        return _Box(tuple(map(add, self.low, by)), tuple(map(add, self.high, by)))

    def holds(self, other: _Box) -> bool:
        return all(map(le, self.low, other.low)) and all(map(ge, self.high, other.high))

    @property
    def lengths(self) -> Shape:
        return tuple(high - low + 1 for low, high in zip(self.low, self.high, strict=True))

    @property
    def count(self) -> int:
        return math.prod(self.lengths)

    def places(self) -> Iterator[Shape]:
        axes = (range(low, high + 1) for low, high in zip(self.low, self.high, strict=True))
        return itertools.product(*axes)


@dataclass(slots=True)
class _Batch:
    """What was read of one shard in one selection."""

    box: _Box
    read: set[Shape] = field(default_factory=set)
    planned: set[Shape] = field(default_factory=set)
    #: The box that is planned already, all of it.
    complete: _Box | None = None


class Selections:
    """Of one array. Not thread-safe."""

    def __init__(self, grid: InnerGrid) -> None:
        self.grid = grid
        self._count = math.prod(grid.per_shard)
        self._batches: LRUCache[Shape, _Batch] = LRUCache(_MAX_SHARDS)
        self._credit = CREDIT
        #: The box inside of a shard that a selection had filled: the same selection has other
        #: shards in its way, and the next one is often a neighbour of its kind.
        self._usual: _Box | None = None

    def read(
        self, index: Shape, most: int, *, begins: bool, exists: Callable[[Shape], bool]
    ) -> list[Shape]:
        """An inner chunk was read: those of its shard to have ready, at most `most`.

        `begins`: a new selection of the shard begins with it. `exists`: whether there is anything
        to fetch of an inner chunk of that shard.
        """
        shard, _ = self.grid.place(index)
        batch = self._batches.get(shard)
        fresh = batch is None or begins
        if batch is None or fresh:
            batch = self._batches[shard] = _Batch(_Box(index, index))
        if index in batch.read:
            return []
        batch.read.add(index)
        self._credit = min(CREDIT, self._credit + CREDIT_PER_READ)
        if index in batch.planned:
            batch.planned.discard(index)
            self._credit = min(CREDIT, self._credit + 1 + CREDIT_PER_HIT)
        batch.box = batch.box.around(index)
        box, floor = self._guess(shard, batch)
        if box is None or box == batch.complete or box.count > _MAX_BOX:
            return []
        return self._planned(batch, box, min(most, int(self._credit - floor)), exists)

    def _guess(self, shard: Shape, batch: _Batch) -> tuple[_Box | None, float]:
        """The box that is probably being read, and how low the credit may go for it."""
        usual = self._usual_around(shard, batch.box)
        if usual is not None:
            return usual, -MORE_IF_SURE
        # Two reads make the box; that the others are in it is what chance is asked about.
        chance = (batch.box.count / self._count) ** max(0, len(batch.read) - 2)
        if chance > _LIKELY:
            return None, 0.0
        filled = len(batch.read) * 4 >= batch.box.count * 3
        if filled:
            self._usual = batch.box.moved(tuple(map(neg, self._corner(shard))))
        floor = -MORE_IF_SURE if filled or chance <= _SURE else 0.0
        return self._whole_line(shard, batch.box), floor

    def _whole_line(self, shard: Shape, box: _Box) -> _Box:
        """A line is taken to go through all of the shard: only the ends of a series do not."""
        long = [axis for axis, length in enumerate(box.lengths) if length > 1]
        if len(long) != 1:
            return box
        (axis,) = long
        start = shard[axis] * self.grid.per_shard[axis]
        stop = min(start + self.grid.per_shard[axis], self.grid.shape[axis])
        return _Box(
            (*box.low[:axis], start, *box.low[axis + 1 :]),
            (*box.high[:axis], stop - 1, *box.high[axis + 1 :]),
        )

    def _usual_around(self, shard: Shape, box: _Box) -> _Box | None:
        """The usual box in this shard, if `box` can be a part of it. Where it is but one wide it
        may be elsewhere: another row, or the series at another point."""
        if self._usual is None:
            return None
        usual = self._usual.moved(self._corner(shard))
        low, high = list(usual.low), list(map(min, usual.high, (n - 1 for n in self.grid.shape)))
        for axis, (wide, length) in enumerate(zip(usual.lengths, box.lengths, strict=True)):
            if wide == length == 1:
                low[axis] = high[axis] = box.low[axis]
        found = _Box(tuple(low), tuple(high))
        return found if found.holds(box) else None

    def _corner(self, shard: Shape) -> Shape:
        return tuple(map(mul, shard, self.grid.per_shard))

    def _planned(
        self, batch: _Batch, box: _Box, room: int, exists: Callable[[Shape], bool]
    ) -> list[Shape]:
        wanted = (
            index
            for index in box.places()
            if index not in batch.read and index not in batch.planned and exists(index)
        )
        plan = list(itertools.islice(wanted, max(0, room)))
        batch.planned.update(plan)
        self._credit -= len(plan)
        if len(plan) < room:
            batch.complete = box
        return plan
