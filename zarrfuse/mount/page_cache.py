"""Which version of each file the kernel's pages hold, and what the kernel was told of its size.

The kernel's page cache belongs to the file, not to the handle: a program that reads one version
while another handle brings in the next would get both (facts: fuse e to g). So pages are kept only
for the version that filled them, and while a handle of another version is open, a new handle goes
past the cache. Knows paths and versions; calls nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from zarrfuse.mount.recent import ANYTHING, Recent

#: Paths remembered, twice as many at most. What is forgotten costs reading pages, or asking for a
#: size, once more: never a wrong byte.
_MOST_PATHS = 200_000
#: An answer may take so long to the kernel, which counts its time from there.
_ON_ITS_WAY_S = 5.0


@dataclass(frozen=True, slots=True)
class Caching:
    """What open() answers: keep the pages that are there; go past the page cache."""

    keep: bool
    direct: bool


class PageCache:
    """Thread-safe. A version is an opaque string; "" = bytes that may change at any time.

    `kept_s`: how long the kernel believes what it was told of a size.
    """

    def __init__(
        self,
        kept_s: float,
        *,
        most_paths: int = _MOST_PATHS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.Lock()
        self._filled = Recent(most=most_paths)
        self._told = Recent(most=most_paths, keep_s=kept_s + _ON_ITS_WAY_S, clock=clock)
        self._open: dict[str, dict[str, int]] = {}

    def opened(self, path: str, version: str) -> Caching:
        """A handle of `version` is being opened; `closed` must follow."""
        with self._lock:
            handles = self._open.setdefault(path, {})
            direct = any(other != version for other in handles)
            keep = not direct and version != "" and self._filled.said(path) == hash(version)
            handles[version] = handles.get(version, 0) + 1
            if not direct:
                self._filled.say(path, version)
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
            self._told.say(path, (size, version) if version else ANYTHING)

    def told_otherwise(self, path: str, size: int, version: str) -> bool:
        """Whether the kernel believes, or may believe, in another size or version than the one to
        be opened."""
        with self._lock:
            told = self._told.said(path)
            if told is None:
                return self._told.lost
        return told not in (ANYTHING, hash((size, version)))

    def may_be_known(self, path: str) -> bool:
        """Whether the kernel may still believe something it was told of that path."""
        with self._lock:
            return self._told.said(path) is not None or self._told.lost

    def changed(self, path: str) -> None:
        """A program writes: the kernel's pages are no version's, also if the bucket refuses it."""
        with self._lock:
            self._filled.say(path, "")

    def forget(self, path: str) -> None:
        """The path names another file from now on, or none."""
        with self._lock:
            self._filled.say(path, "")
            self._told.say(path, ANYTHING)

    def forget_pages(self) -> None:
        """The paths of many files have changed at once."""
        with self._lock:
            self._filled.clear()
