"""Counting and complaining: numbers for `status`, and warnings said once.

A broken disk breaks every block; the first is worth a line, the others a number.
"""

from __future__ import annotations

import threading
from collections import Counter

import structlog


class Counters:
    """Named sums. The lock is a leaf: nothing is called while it is held."""

    def __init__(self, *names: str) -> None:
        self._lock = threading.Lock()
        self._sums: Counter[str] = Counter(dict.fromkeys(names, 0))

    def add(self, name: str, amount: int = 1) -> None:
        with self._lock:
            self._sums[name] += amount

    def snapshot(self) -> dict[str, int]:
        with self._lock:
            return dict(self._sums)


class Complaints:
    """Logs the first of each kind of trouble as a warning, the rest for those who debug."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: set[str] = set()

    def say(self, event: str, **facts: object) -> None:
        with self._lock:
            first = event not in self._said
            self._said.add(event)
        log = structlog.get_logger("zarrfuse.cache")
        (log.warning if first else log.debug)(event, **facts)
