"""Places in the sorted order of keys. Pure; a position is a part of a key, and never None."""

from __future__ import annotations

from zarrfuse.store.order import after_all_under

#: Sorts behind whatever may follow a character in real keys (last assignable code point).
_HIGHEST = "\U0010fffd"


def just_before(position: str) -> str:
    """A position less than `position`, next to nothing between: an `after` that includes it."""
    if not position:
        return ""
    head, last = position[:-1], ord(position[-1])
    if last <= 1:  # a NUL is in no key, and no server takes one
        return head
    previous = 0xD7FF if last == 0xE000 else last - 1  # below the surrogates, which no key has
    return head + chr(previous) + _HIGHEST


def end_of(below: str) -> str | None:
    """A position behind everything that begins with `below`; None is the end of all."""
    return after_all_under(below) if below else None
