"""Which page to ask for, to learn of one name or of all of a directory, in as few as can be.

Knows the areas that pages tell of: one directory, or all levels of an array. Decides nothing about
absence, and nothing about what an answer means.
"""

from __future__ import annotations

from zarrfuse.core.keys import Prefix
from zarrfuse.core.zarr.names import may_be_chunk
from zarrfuse.errors import Unavailable
from zarrfuse.listing.fetcher import Fetcher
from zarrfuse.listing.known import Known
from zarrfuse.listing.memory import Area
from zarrfuse.listing.positions import end_of
from zarrfuse.listing.roots import Root
from zarrfuse.listing.rows import Row
from zarrfuse.listing.turns import Turns

#: An array of at most so many pages is listed whole when the first of its chunks is looked up.
_WHOLE_PAGES = 4
#: So often one name is asked for from the beginning, where what was told is forgotten at once.
_TRIES = 8


class Asking:
    """Thread-safe. `_turns` lets one thread at a time ask for a page of the same area, so that the
    next finds it answered; it is meant to be held over the request."""

    def __init__(self, known: Known, fetcher: Fetcher) -> None:
        self._known = known
        self._fetcher = fetcher
        self._turns = Turns()

    def for_name(self, parent: Prefix, name: str, asked_at: float) -> Row | None:
        """Until it is known what `name` is, as of `asked_at`, and what that is. Mostly one page."""
        for _ in range(_TRIES):
            area = self._area(parent)  # each time: an array that is forgotten is listed otherwise
            reached: str | None = None
            with self._turns.of(_turn_of(area)):
                while True:
                    known, row = self._known.recall(parent, name, asked_at)
                    if known:
                        return row
                    asked = self._ask(area, parent, name, asked_at)
                    if asked is None or (reached is not None and asked <= reached):
                        break
                    reached = asked
        raise Unavailable(f"{parent}{name}: what is listed is forgotten at once")

    def for_age(self, parent: Prefix, asked_at: float) -> None:
        """Where all that is known of a directory is that a part of it is empty: the page from its
        beginning tells how old its objects are."""
        area = self._area(parent)
        if self._known.is_ageless(area, asked_at):
            self._fetcher.page(area, "")

    def for_all(self, prefix: Prefix, asked_at: float) -> None:
        """For what is not known of a directory. To be repeated until all of it is."""
        found = self._known.root_of(prefix)
        if found is None:
            self._fetcher.sweep(Area(prefix, flat=False), "", None, asked_at)
            return
        area, root = Area(found[0], flat=True), found[1]
        rows = self._fetcher.page_rows
        below = prefix[len(area.prefix) :]
        if root.objects is not None and root.objects <= _WHOLE_PAGES * rows:
            places = root.places(rows, "", None)
            self._fetcher.sweep(area, "", None, asked_at, places=places)
            return
        if self._known.follows_known(prefix, asked_at):
            self._walk_on(area, root, below, asked_at)
        self._complete_below(area, root, prefix, asked_at)

    def ahead(self, prefix: Prefix, asked_at: float) -> None:
        """For the first page of a small array, in the background."""
        self._fetcher.ahead(self._look_ahead, prefix, asked_at)

    def areas(self, prefix: Prefix) -> tuple[Area, ...]:
        """Where names of a directory may be known from."""
        return tuple({Area(prefix, flat=False), self._area(prefix)})

    def _ask(self, area: Area, parent: Prefix, name: str, asked_at: float) -> str | None:
        """Asks for a page that tells of `name`, or comes nearer to it; from where on, or None if
        `area` tells all of it."""
        is_new = self._known.is_new(area)
        after = self._known.missing(area, parent, name, asked_at)
        if after is None:
            return None
        if area.flat:
            return self._ask_flat(area, after, asked_at)
        if is_new and not may_be_chunk(name):
            # A directory that nothing is known of most likely has one page, and that of a store's
            # root answers all that is looked for when it is opened.
            after = ""
        self._fetcher.page(area, after)
        return after

    def _ask_flat(self, area: Area, after: str, asked_at: float) -> str:
        """All pages of a small array; else the one that holds what follows `after`: where the grid
        is known the same for all names in it, so that going backwards costs no more."""
        root = self._root(area)
        rows = self._fetcher.page_rows
        if root.objects is not None and root.objects <= _WHOLE_PAGES * rows:
            places = root.places(rows, "", None)
            self._fetcher.sweep(area, "", None, asked_at, places=places)
            return after
        start = self._known.gap(area, root.place_before(rows, after), after, asked_at)
        start = after if start is None else start
        self._fetcher.page(area, start)
        return start

    def _look_ahead(self, prefix: Prefix, asked_at: float) -> None:
        area = Area(prefix, flat=True)
        with self._turns.of(_turn_of(area)):
            if self._known.gap(area, "", None, asked_at) is not None:
                self._fetcher.page(area, "")

    def _walk_on(self, area: Area, root: Root, below: str, asked_at: float) -> None:
        """Somebody goes from directory to directory, as find does: lists ahead, ever further."""
        self._fetcher.sweep(
            area,
            below,
            None,
            asked_at,
            places=root.places(self._fetcher.page_rows, below, None),
            max_pages=root.window,
        )
        root.window *= 2

    def _complete_below(self, area: Area, root: Root, prefix: Prefix, asked_at: float) -> None:
        """One page of all levels is often all there is. If not, it shows whether files lie
        directly in this directory, or below it, where they are not asked for."""
        below = prefix[len(area.prefix) :]
        stop = end_of(below)
        if self._known.gap(area, below, stop, asked_at) == below:
            self._fetcher.page(area, below)
        reached = self._known.gap(area, below, stop, asked_at)
        if reached is None:
            return
        if "/" in reached[len(below) :]:
            self._fetcher.sweep(Area(prefix, flat=False), "", None, asked_at)
            return
        places = root.places(self._fetcher.page_rows, reached, stop)
        self._fetcher.sweep(area, reached, stop, asked_at, places=places)

    def _area(self, prefix: Prefix) -> Area:
        """Where the names of a directory are asked for."""
        root = self._known.root_of(prefix)
        return Area(prefix, flat=False) if root is None else Area(root[0], flat=True)

    def _root(self, area: Area) -> Root:
        found = self._known.root_of(area.prefix)
        return found[1] if found is not None and found[0] == area.prefix else Root()


def _turn_of(area: Area) -> str:
    return f"{area.prefix}*" if area.flat else area.prefix
