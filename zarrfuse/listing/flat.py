"""A page of keys of all levels, taken apart into what it tells of each directory. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from zarrfuse.core.keys import Prefix
from zarrfuse.listing.directory import Row
from zarrfuse.listing.spans import Span


class FlatPage:
    """All keys below `root` that follow `start`, up to `last` (None: to the end of `root`)."""

    def __init__(self, root: Prefix, start: str, last: str | None, at: float) -> None:
        self._root = root
        self._start = start
        self._last = last
        self._at = at
        self._rows: dict[Prefix, dict[str, Row]] = {}

    def add(self, parent: Prefix, rows: dict[str, Row]) -> None:
        """Rows of one directory by position; the directories above it exist by that."""
        known = self._rows.get(parent)
        if known is not None:
            known.update(rows)
            return
        self._rows[parent] = rows
        if parent != self._root:
            self.add(parent.parent, {f"{parent.name}/": parent})

    def directories(self, asked: Prefix) -> Iterator[tuple[Prefix, Span, dict[str, Row]]]:
        """Each directory that the page tells of, the one asked for in any case, with the stretch
        of its names that is known by it."""
        for here in {asked, *self._rows}:
            span = self._span_of(here)
            if span is not None:
                yield here, span, self._rows.get(here, {})

    def _span_of(self, here: Prefix) -> Span | None:
        """The stretch (start, last] of the key space, in names of that directory."""
        if self._start.startswith(here):
            after = self._start[len(here) :]
        elif self._start < here:
            after = ""
        else:
            return None
        if self._last is None:
            return Span(after, None, self._at)
        if self._last.startswith(here):
            return Span(after, self._last[len(here) :], self._at)
        return Span(after, None, self._at) if self._last > here else None
