"""Which pages to ask for next, several at a time, until a range of keys is known. Pure.

Where to cut is a guess, from the chunk grid or from the names of the pages so far. Whether a range
is known is asked of who knows (`gap`), so that no guess can leave anything out: a wrong one costs
a page that tells what another has told.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

#: A cut that was a guess costs up to a page, so there is at most one for so many pages.
_PAGES_FOR_A_CUT = 3
#: So many cuts are tried before.
_FREE_CUTS = 16

Gap = Callable[[str, str | None], str | None]


class Sweep:
    """The range (after, stop], `stop` None being the end. Not safe for threads.

    With `places`, sorted, the range is cut into `at_once` parts of whole pages from the start.
    Without, the first page is asked for alone, and cuts are guessed from its names; as long as they
    are good there are more and more requests at once. At most about `max_pages` are asked for.
    """

    def __init__(
        self,
        after: str,
        stop: str | None,
        *,
        at_once: int,
        places: Sequence[str] | None = None,
        max_pages: int | None = None,
    ) -> None:
        if places is not None and max_pages is not None and len(places) >= max_pages:
            stop, places = places[max_pages - 1], places[: max_pages - 1]
        self._stop = stop
        self._at_once = at_once
        self._guesses = places is None
        self._allowed = 1 if self._guesses else at_once
        self._max_pages = max_pages if self._guesses else None
        self._pages = 0
        self._bounds = [after, *_spread(places or (), at_once)]
        self._busy: dict[str, str] = {}
        #: Of each part that was begun, what the names of its last page share, and the last of them.
        self._seen: dict[str, tuple[str, str]] = {}
        self._tried: set[str] = set()
        self._cuts = 0

    def starts(self, gap: Gap) -> list[str]:
        """What to ask for now: each an `after`. Empty when all is known or on its way."""
        found = self._begin(gap)
        while len(self._busy) < self._allowed and self._guess():
            found += self._begin(gap)
        return found

    def answered(self, after: str, names: Sequence[str], *, useful: bool) -> None:
        """The page from `after` on has told of `names`; not `useful` if they were known already."""
        lower = self._busy.pop(after)
        if not self._guesses:
            return
        # At least one guess at a time: else a wrong one would end them.
        allowed = self._allowed * 2 if useful else self._allowed // 2
        self._allowed = min(max(allowed, 2), self._at_once)
        if useful:
            self._seen[lower] = (_shared(names[0], names[-1]), names[-1])

    def _begin(self, gap: Gap) -> list[str]:
        found = []
        for lower in list(self._bounds):
            if len(self._busy) >= self._allowed or self._pages == self._max_pages:
                break
            if lower in self._busy.values():
                continue
            after = gap(lower, self._upper(lower))
            if after is None:
                self._bounds.remove(lower)
                continue
            self._busy[after] = lower
            self._pages += 1
            found.append(after)
        return found

    def _guess(self) -> bool:
        """Cuts one part that is not known yet into more; whether there was a place for it."""
        if self._cuts > _FREE_CUTS + self._pages // _PAGES_FOR_A_CUT:
            return False
        for lower in self._bounds:
            shared, last = self._seen.get(lower, ("", ""))
            near = self._max_pages is not None  # not all of it is wanted, but what comes next
            for at in reversed(range(len(shared))) if near else range(len(shared)):
                if shared[:at] in self._tried:
                    continue
                self._tried.add(shared[:at])
                upper = self._upper(lower)
                cuts = _cuts(shared, last, at)
                cuts = [cut for cut in cuts if cut > last and (upper is None or cut < upper)]
                if cuts:
                    self._bounds = sorted({*self._bounds, *cuts})
                    self._cuts += len(cuts)
                    return True
        return False

    def _upper(self, lower: str) -> str | None:
        after = bisect_right(self._bounds, lower)
        return self._bounds[after] if after < len(self._bounds) else self._stop


def _shared(first: str, last: str) -> str:
    """How both begin."""
    pairs = enumerate(zip(first, last, strict=False))
    at = next((place for place, (one, other) in pairs if one != other), len(first))
    return first[:at]


def _cuts(shared: str, last: str, at: int) -> list[str]:
    """Places where another character than that of the names so far may stand at `at`.

    Behind "n-00999" these are "n-09999", "n-19999", ...: just before the first name with another
    digit, so that a part whose numbers have no gaps ends with the last page of it.
    """
    head, character = shared[:at], shared[at]
    if character.isdigit():
        nines = "".join("9" if here.isdigit() else here for here in last[at + 1 :])
        return [f"{head}{digit}{nines}" for digit in range(int(character), 9)]
    if character in "./":  # behind 1.9 come 10.0, 11.0, ...; behind 0.9 comes 1.0
        number = head.rpartition(".")[2].rpartition("/")[2]
        return [f"{head}{n}" for n in range(10)] if number.isdigit() and number[0] != "0" else []
    return [head + chr(ord(character) + 1)] if character.isascii() and character.isalpha() else []


def _spread(places: Sequence[str], parts: int) -> Sequence[str]:
    """Every so many of the places, so that they cut into at most `parts`."""
    step = -(-(len(places) + 1) // parts)
    return places[step - 1 :: step]
