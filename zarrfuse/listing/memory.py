"""All name spaces that are remembered, at most so many rows together. `Known` guards it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from zarrfuse.core.keys import Prefix
from zarrfuse.listing.space import Space

#: Where there is too much, so much of the limit is left: not every page shall clear up again.
_ROOM = 0.9


class Area(NamedTuple):
    """Names a space: those in one directory, or (`flat`) all keys below a prefix."""

    prefix: Prefix
    flat: bool


class Memory:
    """The least recently used space is forgotten first; of one that is too large alone, the least
    recently used stretches. What somebody is collecting does not count: it must stay, and while it
    alone is too much, nothing else could be known. `patience` is asked for the share of its time a
    new space is used."""

    def __init__(self, max_keys: int, patience: Callable[[], float]) -> None:
        self._max_keys = max_keys
        self._patience = patience
        self._spaces: OrderedDict[Area, Space] = OrderedDict()
        self._weights: dict[Area, int] = {}
        self._weight = 0
        self._pinned: Counter[Area] = Counter()

    def __len__(self) -> int:
        return len(self._spaces)

    @property
    def keys(self) -> int:
        """How many rows are known."""
        return sum(space.rows for space in self._spaces.values())

    def get(self, area: Area) -> Space | None:
        space = self._spaces.get(area)
        if space is not None:
            self._spaces.move_to_end(area)
        return space

    def made_below(self, prefix: Prefix) -> list[Space]:
        """The spaces below `prefix` that were made here."""
        return [
            space
            for space in self._spaces.values()
            if space.made_here and space.prefix.startswith(prefix)
        ]

    def make(self, area: Area) -> Space:
        """The space, an empty one if there is none; to be weighed after it."""
        space = self.get(area)
        if space is None:
            space = Space(area.prefix, flat=area.flat, patience=self._patience())
            self._spaces[area] = space
        return space

    def replace(self, area: Area, space: Space) -> None:
        self.forget(area)
        self._spaces[area] = space
        self.weigh(area)

    def forget(self, area: Area) -> None:
        self._spaces.pop(area, None)
        self._weight -= self._weights.pop(area, 0)

    def pin(self, areas: Iterable[Area]) -> None:
        """These are not forgotten until unpinned: somebody is collecting all of them."""
        self._pinned.update(areas)

    def unpin(self, areas: Iterable[Area]) -> None:
        for area in areas:
            self._pinned[area] -= 1
            if not self._pinned[area]:
                del self._pinned[area]
        if self._loose > self._max_keys:
            self._trim(None)

    def weigh(self, area: Area) -> None:
        """After a change of that space: makes room where it has become too much."""
        before = self._weights.get(area, 0)
        self._weights[area] = self._spaces[area].weight
        self._weight += self._weights[area] - before
        if self._loose > self._max_keys:
            self._trim(area)

    @property
    def _loose(self) -> int:
        """The weight of what may be forgotten."""
        return self._weight - sum(self._weights.get(area, 0) for area in self._pinned)

    def _trim(self, keep: Area | None) -> None:
        """Forgets until there is some room; what was just changed comes last."""
        others = [area for area in self._spaces if area != keep]
        for area in [*others, *([] if keep is None else [keep])]:
            if self._loose <= self._max_keys * _ROOM:
                return
            if area in self._pinned:
                continue
            if area == keep or self._weights.get(area, 0) > self._max_keys // 2:
                self._cut(area, keep_newest=area == keep)
            else:
                self.forget(area)

    def _cut(self, area: Area, *, keep_newest: bool) -> None:
        space = self._spaces[area]
        others = self._loose - self._weights.get(area, 0)
        target = max(int(self._max_keys * _ROOM) - others, 0)
        space.drop_oldest(target, keep_newest=keep_newest)
        self._weight += space.weight - self._weights.get(area, 0)
        self._weights[area] = space.weight
