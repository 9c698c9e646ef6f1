"""A bounded memory of what was said of names: two generations, so that forgetting costs nothing.

Names and what was said are kept as their hashes: some 120 bytes a name, whatever its length. Pure.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable

#: The hash of what was said where nothing can be compared with it.
ANYTHING = 0


class Recent:
    """Remembers for `keep_s` what is said of a name, or of the latest `most` names at least.
    Not thread-safe: its owner has a lock."""

    def __init__(
        self,
        *,
        most: int,
        keep_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._keep_s = keep_s
        self._clock = clock
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._begun = clock()
        self._lost_until = -math.inf

    def say(self, name: str, what: Hashable) -> None:
        """`what` is true of `name` from now on; ANYTHING: whatever it is compared with."""
        now = self._clock()
        if len(self._young) >= self._most or now - self._begun >= self._keep_s:
            self._turn(now)
        self._young[hash(name)] = hash(what)

    def said(self, name: str) -> int | None:
        """The hash of what was said of it; None if it is not remembered."""
        key = hash(name)
        found = self._young.get(key)
        return self._old.get(key) if found is None else found

    @property
    def lost(self) -> bool:
        """Whether something was forgotten before `keep_s` was over."""
        return self._clock() < self._lost_until

    def clear(self) -> None:
        self._young, self._old = {}, {}

    def _turn(self, now: float) -> None:
        """The elder generation goes; the latest of it was said when the younger began."""
        if self._old and self._keep_s < math.inf:
            self._lost_until = self._begun + self._keep_s
        self._young, self._old, self._begun = {}, self._young, now
