"""A tree that takes no writes: every change is refused before it reaches anything."""

from __future__ import annotations

from collections.abc import Iterator

from zarrfuse.core.attributes import Attributes
from zarrfuse.errors import ReadOnly
from zarrfuse.tree.base import Handle, Opening, Tree


class ReadOnlyTree:
    """`inner` without its writing half. Implements tree.base.Tree."""

    def __init__(self, inner: Tree) -> None:
        self._inner = inner

    def attributes(self, path: str) -> Attributes:
        return self._inner.attributes(path)

    def entries(self, path: str) -> Iterator[tuple[str, Attributes]]:
        return self._inner.entries(path)

    def open(self, path: str, how: Opening) -> Handle:
        if not how.read_only:
            raise ReadOnly(path)
        return self._inner.open(path, how)

    def create(self, path: str, how: Opening) -> Handle:
        raise ReadOnly(path)

    def truncate(self, path: str, size: int) -> None:
        raise ReadOnly(path)

    def mkdir(self, path: str) -> None:
        raise ReadOnly(path)

    def rmdir(self, path: str) -> None:
        raise ReadOnly(path)

    def unlink(self, path: str) -> None:
        raise ReadOnly(path)

    def rename(self, old: str, new: str) -> None:
        raise ReadOnly(old)

    def link(self, existing: str, new: str) -> None:
        raise ReadOnly(new)

    def set_time(self, path: str, mtime_ns: int) -> None:
        raise ReadOnly(path)

    def drain(self) -> None:
        """Nothing was written."""
