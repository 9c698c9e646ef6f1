"""Directories below which one page tells of all levels: Zarr arrays, whose chunks lie in many small
directories. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Pages that are asked for ahead of a program that walks from directory to directory, at first.
_FIRST_WINDOW = 8

#: Places in the sort order of the keys, so many keys from each other; None if they are not known.
Splits = Callable[[int], Sequence[str] | None]


@dataclass(slots=True)
class Root:
    """`objects` is about how many lie below it, None if unknown; `splits` where to cut a listing.

    `window`: pages that are listed ahead when somebody walks on through the directories.
    """

    objects: int | None = None
    splits: Splits | None = None
    window: int = _FIRST_WINDOW
    _places: Sequence[str] | None = None

    def places(self, every: int, after: str, stop: str | None) -> Sequence[str] | None:
        """The splits between `after` and `stop`; None where nothing is known of them."""
        if self.splits is None:
            return None
        if self._places is None:
            self._places = self.splits(every)
        if self._places is None:
            self.splits = None
            return None
        first = bisect_right(self._places, after)
        last = len(self._places) if stop is None else bisect_right(self._places, stop)
        return self._places[first:last]

    def place_before(self, every: int, position: str) -> str:
        """The last split before `position`, from which a page most likely reaches it; `position`
        itself without splits."""
        places = self.places(every, "", position)
        if places is None:
            return position
        return places[-1] if places else ""


def is_array(names: Sequence[str]) -> bool:
    """Whether a directory with these names, of directories with their "/", is an array whose chunks
    lie in directories. A group with one member called "c" looks the same, and is small."""
    directories = [name for name in names if name.endswith("/")]
    if "zarr.json" in names:
        return directories == ["c/"]
    return ".zarray" in names and any(name[:1].isdigit() for name in directories)
