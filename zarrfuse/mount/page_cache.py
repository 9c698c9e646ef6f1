"""Which version of each file the kernel's pages hold, and what the kernel was told of its size.

The kernel's page cache belongs to the file, not to the handle: a program that reads one version
while another handle brings in the next would get both (facts: fuse e to g). So pages are kept only
for the version that filled them, and while a handle of another version is open, a new handle goes
past the cache. Knows paths and versions; calls nothing.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from cachetools import LRUCache

#: Paths remembered. A forgotten one only costs reading its pages again.
_MAX_PATHS = 200_000


@dataclass(frozen=True, slots=True)
class Caching:
    """What open() answers: keep the pages that are there; go past the page cache."""

    keep: bool
    direct: bool


class PageCache:
    """Thread-safe. A version is an opaque string; "" = bytes that may change at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._filled: LRUCache[str, str] = LRUCache(_MAX_PATHS)
        self._told: LRUCache[str, tuple[int, str]] = LRUCache(_MAX_PATHS)
        self._open: dict[str, Counter[str]] = {}

    def opened(self, path: str, version: str) -> Caching:
        """A handle of `version` is being opened; `closed` must follow."""
        with self._lock:
            handles = self._open.setdefault(path, Counter())
            direct = any(other != version for other in handles)
            keep = not direct and version != "" and self._filled.get(path) == version
            handles[version] += 1
            if not direct:
                self._filled[path] = version
            return Caching(keep, direct)

    def closed(self, path: str, version: str) -> None:
        with self._lock:
            handles = self._open.get(path)
            if handles is None:
                return
            handles[version] -= 1
            if handles[version] <= 0:
                del handles[version]
            if not handles:
                del self._open[path]

    def tell(self, path: str, size: int, version: str) -> None:
        """The kernel is being told this size."""
        with self._lock:
            self._told[path] = (size, version)

    def told_otherwise(self, path: str, size: int, version: str) -> bool:
        """Whether the kernel believes in another size or version than the one to be opened."""
        with self._lock:
            told = self._told.get(path)
        return told is not None and told[1] != "" and told != (size, version)

    def changed(self, path: str) -> None:
        """A program writes: the kernel's pages are no version's, also if the bucket refuses it."""
        with self._lock:
            self._filled[path] = ""

    def forget(self, path: str) -> None:
        """The path names another file from now on, or none."""
        with self._lock:
            self._filled.pop(path, None)
            self._told.pop(path, None)
