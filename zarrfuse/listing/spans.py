"""Which stretches of one directory's sorted names are known, and since when.

Pure: the caller gives the times. A stretch is (after, last]: what a LIST page that
was asked for what follows `after` has told. Positions compare as Python strings do, which is the
order of their UTF-8 bytes, the order of S3 listings.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Greater than every position: the end of the directory.
END = None
#: Sorts behind whatever may follow a character in real keys (last assignable code point).
_HIGHEST = "\U0010fffd"


@dataclass(frozen=True, slots=True)
class Span:
    """`last` END means that nothing follows. `at` is when the request was sent, in seconds."""

    after: str
    last: str | None
    at: float

    def holds(self, position: str) -> bool:
        return self.after < position and (self.last is None or position <= self.last)


class Spans:
    """The stretches of one directory, sorted; a newer one replaces what it covers of older ones."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def add(self, new: Span) -> None:
        kept: list[Span] = []
        for old in self._spans:
            kept.extend(_outside(old, new))
        kept.append(new)
        self._spans = sorted(kept, key=lambda span: span.after)

    def knows(self, position: str, since: float) -> bool:
        """Whether `position` lies in a stretch asked for at `since` or later."""
        return any(span.holds(position) and span.at >= since for span in self._spans)

    def gap(self, since: float) -> str | None:
        """Where the first stretch not known begins (an `after`), or None if all is known."""
        reached = ""
        for span in self._spans:
            if span.after > reached or span.at < since:
                return reached
            if span.last is None:
                return None
            reached = span.last
        return reached


def _outside(old: Span, new: Span) -> list[Span]:
    """What is left of `old` where `new` does not cover it: nothing, one piece or two."""
    pieces = []
    if old.after < new.after:
        last = new.after if old.last is None or old.last > new.after else old.last
        pieces.append(Span(old.after, last, old.at))
    if new.last is not None and (old.last is None or old.last > new.last):
        pieces.append(Span(max(old.after, new.last), old.last, old.at))
    return pieces


def just_before(position: str) -> str:
    """A position less than `position`, next to nothing between: an `after` that includes it."""
    if not position:
        return ""
    head, last = position[:-1], ord(position[-1])
    if last <= 1:  # a NUL is in no key, and no server takes one
        return head
    previous = 0xD7FF if last == 0xE000 else last - 1  # below the surrogates, which no key has
    return head + chr(previous) + _HIGHEST
