"""What is known of one sorted name space: its rows, and which stretches of it they are all of.

Owns no request, no clock and no lock: `Known` guards this. Two kinds: the names in one directory,
as a LIST with a delimiter gives them, and all keys of all levels below a prefix ("flat"). A stretch
is (after, last]: what one page that was asked for what follows `after` has told.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zarrfuse.core.keys import ObjectMeta, Prefix
from zarrfuse.listing.positions import end_of, just_before
from zarrfuse.listing.rows import Row, Rows

#: A stretch that our own changes let grow beyond this is cut in two: each change moves its rows.
_MAX_ROWS = 4000
#: What a space, and a stretch, weigh beside their rows, in rows of about 100 bytes (measured).
_SPACE_WEIGHT = 14
_STRETCH_WEIGHT = 7


@dataclass(frozen=True, slots=True)
class Told:
    """A page: `rows` by position, sorted, are all there is in (after, last]; `last` None is the
    end. `at` is when it was asked for, in seconds."""

    after: str
    last: str | None
    at: float
    rows: Sequence[tuple[str, Row]]


@dataclass(slots=True)
class Stretch:
    after: str
    last: str | None
    at: float
    rows: Rows
    used: int = 0

    def holds(self, position: str) -> bool:
        return self.after < position and (self.last is None or position <= self.last)


class Space:
    """Look-ups are O(log n). `patience` times the usual age is what its pages are used for."""

    def __init__(self, prefix: Prefix, *, flat: bool, patience: float = 1.0) -> None:
        self.prefix = prefix
        self.flat = flat
        self.patience = patience
        self.made_here = False
        """Made through this mount where nothing was, and nobody else was seen to write in it:
        what is absent needs no second question."""
        self.newest_ns = 0
        """The latest time of any object seen here, in ns since the epoch. Of a large directory not
        all is seen: a part that nobody writes in looks settled beside one where somebody does, and
        what is absent there is asked for only once that other part was seen."""
        self.aged_at = float("-inf")
        """When a page was last asked for that had any object."""
        self.vanished: set[str] = set()
        """Positions that an earlier page or we ourselves had, and a later page had not."""
        self.rows = 0
        self._stretches: list[Stretch] = []
        self._tick = 0

    @property
    def weight(self) -> int:
        """What it takes in memory, in rows."""
        return (
            self.rows + len(self.vanished) + _STRETCH_WEIGHT * len(self._stretches) + _SPACE_WEIGHT
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known, not even from long ago."""
        return not self._stretches

    # Questions -----------------------------------------------------------------------------

    def entry(self, position: str, since: float) -> tuple[bool, Row | None]:
        """Whether it is known, as of `since`, what stands at that name, and what was last seen
        there; a directory hides an object of its name."""
        stretch = self._holding(position)
        if stretch is not None and stretch.at >= since:
            row = stretch.rows.plain(self.prefix, position)
            if row is not None:
                self._use(stretch)
                return True, row
        return self._entry_anywhere(position, since)

    def _entry_anywhere(self, position: str, since: float) -> tuple[bool, Row | None]:
        """As `entry`, where one stretch alone does not tell."""
        directory = self._first_below(f"{position}/")
        if directory is not None:
            self._use(directory)
            return directory.at >= since, Prefix(f"{self.prefix}{position}/")
        stretch = self._holding(position)
        if stretch is None:
            return False, None
        self._use(stretch)
        index = stretch.rows.index(position)
        row = None if index is None else stretch.rows.row(self.prefix, index)
        return self.missing(position, since) is None, row

    def missing(self, position: str, since: float) -> str | None:
        """The `after` to ask from to learn what stands at that name, None if it is known."""
        stretch = self._holding(position)
        if stretch is None or stretch.at < since:
            return just_before(position)
        below = f"{position}/"
        directory = self._first_below(below)
        if directory is not None and directory.at >= since:
            return None
        until = end_of(below) if self.flat else below
        return self.gap(just_before(below), until, since)

    def gap(self, after: str, stop: str | None, since: float) -> str | None:
        """Where in (after, stop] the first stretch not known as of `since` begins, None if all is
        known. `stop` None is the end."""
        reached = after
        for stretch in self._from(after):
            if stretch.after > reached or stretch.at < since:
                return reached
            if stretch.last is None or (stop is not None and stretch.last >= stop):
                return None
            reached = stretch.last
        return reached

    def is_ageless(self, since: float) -> bool:
        """Whether only a part of it is known as of `since`, and nothing lies in that."""
        return self.aged_at < since and self.gap("", None, since) is not None

    def pieces(self, after: str, stop: str | None) -> list[Rows]:
        """Copies of the rows in (after, stop]."""
        found = []
        for stretch in self._from(after):
            if stop is not None and stretch.after >= stop:
                break
            self._use(stretch)
            rows = stretch.rows
            until = len(rows) if stop is None else rows.behind(stop)
            found.append(rows.cut(rows.behind(after), until))
        return found

    def before(self, position: str) -> str | None:
        """The position of the last row before `position`, in the stretch that holds it."""
        stretch = self._holding(position)
        if stretch is None:
            return None
        index = stretch.rows.from_(position)
        return stretch.rows.positions[index - 1] if index else None

    def __contains__(self, position: object) -> bool:
        stretch = self._holding(str(position))
        return stretch is not None and stretch.rows.index(str(position)) is not None

    # Changes -------------------------------------------------------------------------------

    def merge(self, told: Told) -> set[str]:
        """Takes a page in. Positions where earlier pages had told otherwise."""
        new = dict(told.rows)
        changed: set[str] = set()
        kept: list[Stretch] = []
        first, last = self._overlapped(told)
        news = set(new)
        for old in self._stretches[first:last]:
            left = old.rows.behind(told.after)
            right = len(old.rows) if told.last is None else old.rows.behind(told.last)
            for index in range(left, right):
                position = old.rows.positions[index]
                if position not in new:
                    self.vanished.add(position)
                    changed.add(position)
                elif not old.rows.same(index, new[position]):
                    changed.add(position)
                news.discard(position)
            changed.update(position for position in news if old.holds(position))
            kept.extend(_outside(old, told, left, right))
            self.rows -= right - left
        if news:
            self.made_here = False  # somebody else writes here as well
        self.vanished.difference_update(new)
        mine = Stretch(told.after, told.last, told.at, Rows.of(told.rows))
        self._use(mine)
        self._stretches[first:last] = sorted([*kept, mine], key=_after_of)
        self.rows += len(mine.rows)
        self.newest_ns = max(self.newest_ns, mine.rows.newest_ns())
        if told.rows:
            self.aged_at = max(self.aged_at, told.at)
        return changed

    def set(self, position: str, row: Row) -> None:
        """Puts a row into the stretch that holds it; without one, nothing is known there."""
        if self.flat and isinstance(row, Prefix):
            return  # told by what lies below it
        if isinstance(row, ObjectMeta):
            self.newest_ns = max(self.newest_ns, row.modified_ns)
        self.vanished.discard(position)
        stretch = self._holding(position)
        if stretch is not None:
            self.rows += stretch.rows.set(position, row)
            if len(stretch.rows) > _MAX_ROWS:
                self._halve(stretch)

    def remove(self, position: str) -> None:
        self.vanished.discard(position)
        stretch = self._holding(position)
        if stretch is not None:
            self.rows -= stretch.rows.remove(position)

    def doubt(self, position: str) -> None:
        """Forgets the stretch that holds it."""
        self.made_here = False
        stretch = self._holding(position)
        if stretch is not None:
            self._drop(stretch)

    def drop_oldest(self, weight: int, *, keep_newest: bool) -> None:
        """Forgets the stretches that were not used for longest, until it weighs no more; with
        `keep_newest` never the last of them, which somebody has asked for a moment ago."""
        self.made_here = False
        oldest = sorted(self._stretches, key=lambda stretch: stretch.used)
        for stretch in oldest[:-1] if keep_newest else oldest:
            if self.weight <= weight:
                return
            self._drop(stretch)
        self.vanished.clear()

    # Inside --------------------------------------------------------------------------------

    def _use(self, stretch: Stretch) -> None:
        self._tick += 1
        stretch.used = self._tick

    def _drop(self, stretch: Stretch) -> None:
        self._stretches.remove(stretch)
        self.rows -= len(stretch.rows)

    def _at(self, position: str) -> int:
        """The index of the first stretch that begins at `position` or behind it."""
        return bisect_left(self._stretches, position, key=_after_of)

    def _holding(self, position: str) -> Stretch | None:
        at = self._at(position) - 1
        found = at >= 0 and self._stretches[at].holds(position)
        return self._stretches[at] if found else None

    def _from(self, after: str) -> Iterator[Stretch]:
        """The stretches that know something behind `after`, in order."""
        at = self._at(after)
        if at > 0 and _reaches_beyond(self._stretches[at - 1], after):
            at -= 1
        for index in range(at, len(self._stretches)):
            yield self._stretches[index]

    def _first_below(self, below: str) -> Stretch | None:
        """The stretch with the first row that begins with `below`, if there is any."""
        for stretch in self._from(just_before(below)):
            index = stretch.rows.from_(below)
            if index < len(stretch.rows):
                return stretch if stretch.rows.positions[index].startswith(below) else None
            if stretch.after > below and not stretch.after.startswith(below):
                return None
        return None

    def _overlapped(self, told: Told) -> tuple[int, int]:
        """The slice of the stretches that share a position with the page."""
        first = self._at(told.after)
        if first > 0 and _reaches_beyond(self._stretches[first - 1], told.after):
            first -= 1
        last = len(self._stretches) if told.last is None else self._at(told.last)
        return first, max(first, last)

    def _halve(self, stretch: Stretch) -> None:
        middle = len(stretch.rows) // 2
        border = stretch.rows.positions[middle - 1]
        upper = stretch.rows.cut(middle, len(stretch.rows))
        at = self._stretches.index(stretch) + 1
        self._stretches.insert(at, Stretch(border, stretch.last, stretch.at, upper, stretch.used))
        stretch.last, stretch.rows = border, stretch.rows.cut(0, middle)


def _after_of(stretch: Stretch) -> str:
    return stretch.after


def _reaches_beyond(stretch: Stretch, position: str) -> bool:
    return stretch.last is None or stretch.last > position


def _outside(old: Stretch, told: Told, left: int, right: int) -> Iterator[Stretch]:
    """What is left of `old` where the page does not cover it: nothing, one piece or two."""
    if old.after < told.after:
        yield Stretch(old.after, told.after, old.at, old.rows.cut(0, left), old.used)
    if told.last is not None and _reaches_beyond(old, told.last):
        rest = old.rows.cut(right, len(old.rows))
        yield Stretch(told.last, old.last, old.at, rest, old.used)
