"""Our own changes of late, and the directories that we keep although nothing lies below them.

Swift's listings may lag behind its objects: so a change made through this mount is believed over
any page for a while. No lock and no request: `Known` guards this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sortedcontainers import SortedDict

from zarrfuse.core.keys import Key, ObjectMeta, Prefix
from zarrfuse.listing.positions import end_of
from zarrfuse.listing.rows import Row


@dataclass(frozen=True, slots=True)
class Own:
    """A change of our own: `row` stands there now, or nothing (None). Believed until `until`."""

    row: Row | None
    until: float


class OwnChanges:
    """By place: the key of an object, or the prefix of a directory. Believed for `ttl_s`."""

    def __init__(self, ttl_s: float, clock: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._changes: SortedDict[str, Own] = SortedDict()
        self._order: deque[tuple[str, Own]] = deque()
        self._kept: dict[Prefix, set[str]] = {}

    def note(self, place: str, row: Row | None) -> None:
        self._expire()
        own = Own(row, self._clock() + self._ttl_s)
        # Plain strings: they are compared often.
        self._changes[str(place)] = own
        self._order.append((str(place), own))

    def get(self, place: str) -> Own | None:
        self._expire()
        own: Own | None = self._changes.get(place)
        return own

    def drop(self, place: str) -> None:
        self._changes.pop(place, None)

    def between(self, after: str, last: str | None) -> Iterator[tuple[str, Own]]:
        """The changes in (after, last], in order; `last` None is the end."""
        self._expire()
        for place in self._changes.irange(after, last, inclusive=(False, True)):
            yield place, self._changes[place]

    def below(self, prefix: Prefix) -> tuple[dict[Key, ObjectMeta], set[Key]]:
        """The objects under `prefix` that we put, and those that we deleted, of late."""
        put: dict[Key, ObjectMeta] = {}
        deleted: set[Key] = set()
        for place, own in self.between(prefix, end_of(prefix)):
            if isinstance(own.row, ObjectMeta):
                put[own.row.key] = own.row
            elif own.row is None:
                deleted.add(Key(place))
        return put, deleted

    def keep(self, prefix: Prefix) -> None:
        """A directory, and those above it, stay without objects until rmdir or unmount."""
        for here in prefix.lineage():
            if not here.is_root:
                self._kept.setdefault(here.parent, set()).add(here.name)

    def keep_no_longer(self, prefix: Prefix) -> None:
        self._kept.get(prefix.parent, set()).discard(prefix.name)

    def keeps(self, parent: Prefix, name: str) -> bool:
        return name in self._kept.get(parent, ())

    def kept(self, parent: Prefix) -> list[str]:
        """The names of the directories in `parent` that are kept."""
        return list(self._kept.get(parent, ()))

    def _expire(self) -> None:
        """Forgets changes of more than `ttl_s` ago: from now on a page is the truth."""
        now = self._clock()
        while self._order and self._order[0][1].until <= now:
            place, own = self._order.popleft()
            if self._changes.get(place) is own:
                del self._changes[place]
