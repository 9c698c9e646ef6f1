"""The bound on what is fetched at once when a store is first touched. Knows no keys."""

from __future__ import annotations

import threading

#: Most chunks of coordinates that a burst looks for: each may cost a LIST of its own, and the one
#: thread that plans has other readers to serve.
_MOST_LOOKS = 200
#: Most members of a group whose metadata it looks for: a LIST each.
MOST_MEMBERS = 64


class Burst:
    """What may still be fetched, and looked for. Thread-safe; the lock is a leaf."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._left_bytes = most_bytes
        self._left_looks = _MOST_LOOKS
        self._lock = threading.Lock()

    @property
    def is_spent(self) -> bool:
        return self._left_bytes <= 0

    def look(self) -> bool:
        """Whether one more chunk may be looked for."""
        with self._lock:
            allowed = self._left_bytes > 0 and self._left_looks > 0
            self._left_looks -= allowed
            return allowed

    def take(self, size: int) -> bool:
        """Whether so much may be fetched. If not, the burst is over: what is too large for any
        burst is only passed over."""
        with self._lock:
            if size > self._most_bytes:
                return False
            fits = size <= self._left_bytes
            self._left_bytes = self._left_bytes - size if fits else 0
            return fits
