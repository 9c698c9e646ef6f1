"""Rows of a listing in columns: a million of them are kept, so each must be small.

Pure, and not safe for threads by itself. A row's position is its key below some prefix; a position
that ends in "/" is a directory. Positions sort as Python strings do, which is the order of their
UTF-8 bytes, the order of S3 listings.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from zarrfuse.core.keys import ETag, Key, ObjectMeta, Prefix

#: A file's meta, or the prefix of a directory.
Row = ObjectMeta | Prefix

#: In the column of sizes: this row is a directory.
_DIRECTORY = -1
#: Nearly every ETag is an MD5 in hexadecimal; sixteen bytes hold it.
_PACKED_BYTES = 16
_NO_ETAG = "0" * 2 * _PACKED_BYTES


class Rows:
    """Sorted by position. About 110 bytes a row with short names, where objects would take 500."""

    __slots__ = ("_etags", "_sizes", "_times", "positions")

    def __init__(
        self,
        positions: list[str],
        sizes: array[int],
        times: array[int],
        etags: bytearray | list[str],
    ) -> None:
        self.positions = positions
        self._sizes = sizes
        self._times = times
        self._etags = etags

    @classmethod
    def of(cls, rows: Sequence[tuple[str, Row]]) -> Rows:
        """From positions and rows, sorted by position."""
        metas = [row if isinstance(row, ObjectMeta) else None for _, row in rows]
        return cls(
            [position for position, _ in rows],
            array("q", (_DIRECTORY if meta is None else meta.size for meta in metas)),
            array("q", (0 if meta is None else meta.modified_ns for meta in metas)),
            _pack([_NO_ETAG if meta is None else str(meta.etag) for meta in metas]),
        )

    def __len__(self) -> int:
        return len(self.positions)

    def from_(self, position: str) -> int:
        """The index of the first row at `position` or behind it."""
        return bisect_left(self.positions, position)

    def behind(self, position: str) -> int:
        """The index of the first row behind `position`."""
        return bisect_right(self.positions, position)

    def index(self, position: str) -> int | None:
        at = self.from_(position)
        found = at < len(self.positions) and self.positions[at] == position
        return at if found else None

    def row(self, prefix: Prefix, index: int) -> Row:
        """The row, made anew; `prefix` is what its position lies below."""
        key = prefix + self.positions[index]
        size = self._sizes[index]
        if size == _DIRECTORY:
            return Prefix(key)
        return ObjectMeta(Key(key), size, ETag(self._etag(index)), self._times[index])

    def plain(self, prefix: Prefix, position: str) -> Row | None:
        """What stands at that name, where these rows alone prove it: the row next to it shows that
        no directory of the name is hidden among other rows. None where they do not."""
        at = bisect_left(self.positions, position)
        below = f"{position}/"
        for index in (at, at + 1):
            if index == len(self.positions):
                return None
            if self.positions[index].startswith(below):
                return Prefix(f"{prefix}{below}")
            if self.positions[index] > below:
                is_there = index > at and self.positions[at] == position
                return self.row(prefix, at) if is_there else None
        return None

    def same(self, index: int, row: Row) -> bool:
        """Whether `row`, of the same position, is the same version."""
        if isinstance(row, Prefix):
            return self._sizes[index] == _DIRECTORY
        return self._sizes[index] == row.size and self._etag(index) == row.etag

    def is_directory(self, index: int) -> bool:
        return self._sizes[index] == _DIRECTORY

    def newest_ns(self) -> int:
        """The latest time of any object here; 0 without any."""
        return max(self._times, default=0)

    def cut(self, start: int, stop: int) -> Rows:
        """A copy of the rows [start, stop)."""
        step = _PACKED_BYTES if isinstance(self._etags, bytearray) else 1
        return Rows(
            self.positions[start:stop],
            self._sizes[start:stop],
            self._times[start:stop],
            self._etags[start * step : stop * step],
        )

    def set(self, position: str, row: Row) -> int:
        """Puts a row where it belongs; how many more rows there are now, 1 or 0."""
        grown = 1 if self.index(position) is None else 0
        self.remove(position)
        at = self.from_(position)
        other = Rows.of([(position, row)])
        self.positions[at:at] = other.positions
        self._sizes[at:at] = other._sizes
        self._times[at:at] = other._times
        self._insert_etag(at, other)
        return grown

    def remove(self, position: str) -> int:
        """Takes a row out; how many rows went, 1 or 0."""
        at = self.index(position)
        if at is None:
            return 0
        step = _PACKED_BYTES if isinstance(self._etags, bytearray) else 1
        del self.positions[at], self._sizes[at], self._times[at]
        del self._etags[at * step : (at + 1) * step]
        return 1

    def _etag(self, index: int) -> str:
        if isinstance(self._etags, bytearray):
            return self._etags[index * _PACKED_BYTES : (index + 1) * _PACKED_BYTES].hex()
        return self._etags[index]

    def _insert_etag(self, at: int, other: Rows) -> None:
        if isinstance(self._etags, bytearray) and isinstance(other._etags, bytearray):
            self._etags[at * _PACKED_BYTES : at * _PACKED_BYTES] = other._etags
            return
        if isinstance(self._etags, bytearray):
            self._etags = [self._etag(index) for index in range(len(self._sizes) - 1)]
        self._etags.insert(at, other._etag(0))


def _pack(etags: list[str]) -> bytearray | list[str]:
    """Sixteen bytes each if all of them are 32 lower-case hexadecimal digits, else as they are."""
    text = "".join(etags)
    if all(len(etag) == 2 * _PACKED_BYTES for etag in etags):
        try:
            packed = bytearray.fromhex(text)
        except ValueError:
            return etags
        if packed.hex() == text:
            return packed
    return etags


def entries_of(
    prefix: Prefix, below: str, pieces: Iterable[Rows]
) -> tuple[dict[str, Row], list[str]]:
    """What lies directly in the directory `prefix + below`, by name, from rows of all levels in
    order; and the names of the objects that a directory hides."""
    found: dict[str, Row] = {}
    hidden: list[str] = []
    skip = len(below)
    last = ""
    for rows in pieces:
        for index, position in enumerate(rows.positions):
            name, slash, _ = position[skip:].partition("/")
            if slash and name != last:
                if isinstance(found.get(name), ObjectMeta):
                    hidden.append(name)
                found[name] = Prefix(f"{prefix}{below}{name}/")
                last = name
            elif not slash and name:
                found[name] = rows.row(prefix, index)
    return found, hidden
