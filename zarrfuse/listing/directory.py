"""What is known of one directory: its rows, and which stretches of its names they are complete for.

Owns no request and no lock: `Listing` asks the bucket and guards this. A row's position is its
name, with "/" behind it for a directory, so that positions sort as the keys do.
"""

from __future__ import annotations

from collections.abc import Iterator

from sortedcontainers import SortedDict

from zarrfuse.core.keys import ObjectMeta, Prefix
from zarrfuse.listing.spans import Span, Spans

#: A file's meta, or the prefix of a directory.
Row = ObjectMeta | Prefix


class Directory:
    """Rows by position, for the stretches in `spans`."""

    def __init__(self, prefix: Prefix) -> None:
        self.prefix = prefix
        self.spans = Spans()
        self.made_here = False
        """Made through this mount where nothing was, and nobody else was seen to write in it:
        what is absent needs no second question."""
        self.newest_ns = 0
        """The latest time of any object seen here, in ns since the epoch."""
        self.vanished: set[str] = set()
        """Positions that an earlier page or we ourselves had, and a later page had not."""
        self._rows: SortedDict[str, Row] = SortedDict()

    def merge(self, span: Span, rows: dict[str, Row]) -> None:
        """Takes a page: `rows` is all there is in `span`."""
        if any(position not in self._rows for position in rows):
            self.made_here = False  # somebody else writes here as well
        covered = self._rows.irange(span.after, span.last, inclusive=(False, True))
        for position in list(covered):
            del self._rows[position]
            if position not in rows:
                self.vanished.add(position)
        for position, row in rows.items():
            self.set(position, row)
        self.spans.add(span)

    def set(self, position: str, row: Row) -> None:
        self._rows[position] = row
        self.vanished.discard(position)
        if isinstance(row, ObjectMeta):
            self.newest_ns = max(self.newest_ns, row.modified_ns)

    def remove(self, position: str) -> None:
        self._rows.pop(position, None)
        self.vanished.discard(position)

    def __contains__(self, position: object) -> bool:
        return position in self._rows

    def find(self, name: str) -> Row | None:
        """The row of that name; a directory hides an object of the same name."""
        row: Row | None = self._rows.get(f"{name}/") or self._rows.get(name)
        return row

    def knows(self, name: str, since: float) -> bool:
        """Whether `find` is the truth as of `since`."""
        return self.spans.knows(name, since) and self.spans.knows(f"{name}/", since)

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Name and row of everything known, in order, hidden objects left out."""
        for position, row in self._rows.items():
            if position.endswith("/"):
                yield position[:-1], row
            elif f"{position}/" not in self._rows:
                yield position, row

    def shadowed(self) -> int:
        """How many objects a directory of the same name hides."""
        return sum(1 for at in self._rows if not at.endswith("/") and f"{at}/" in self._rows)
