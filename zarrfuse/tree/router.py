"""One tree in front of two: the first component of a path says which one is asked.

Knows the name of the drop box and nothing of either tree.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from zarrfuse.core.attributes import Attributes
from zarrfuse.errors import Busy, CrossTree, EntryExists
from zarrfuse.tree.base import Handle, Opening, Tree


class RouterTree:
    """`inner` is shown at /`name`, `outer` everywhere else. Implements tree.base.Tree."""

    def __init__(self, outer: Tree, inner: Tree, name: str) -> None:
        self._outer = outer
        self._inner = inner
        self._name = name
        self._root = f"/{name}"
        self._started_ns = time.time_ns()

    def attributes(self, path: str) -> Attributes:
        if path == self._root:
            return Attributes(is_directory=True, size=0, mtime_ns=self._started_ns)
        tree, rest = self._route(path)
        return tree.attributes(rest)

    def entries(self, path: str) -> Iterator[tuple[str, Attributes]]:
        tree, rest = self._route(path)
        if path != "/":
            return tree.entries(rest)
        # A bucket that got something of that name since: the drop box hides it.
        rows = dict(tree.entries("/")) | {self._name: self.attributes(self._root)}
        return iter(sorted(rows.items()))

    def open(self, path: str, how: Opening) -> Handle:
        tree, rest = self._route(path)
        return tree.open(rest, how)

    def create(self, path: str, how: Opening) -> Handle:
        tree, rest = self._route(path)
        return tree.create(rest, how)

    def truncate(self, path: str, size: int) -> None:
        tree, rest = self._route(path)
        tree.truncate(rest, size)

    def mkdir(self, path: str) -> None:
        if path == self._root:
            raise EntryExists(path)
        tree, rest = self._route(path)
        tree.mkdir(rest)

    def rmdir(self, path: str) -> None:
        self._refuse_root(path)
        tree, rest = self._route(path)
        tree.rmdir(rest)

    def unlink(self, path: str) -> None:
        tree, rest = self._route(path)
        tree.unlink(rest)

    def rename(self, old: str, new: str) -> None:
        self._refuse_root(old)
        self._refuse_root(new)
        (source, old_rest), (target, new_rest) = self._route(old), self._route(new)
        if source is not target:
            raise CrossTree(f"{old} and {new} lie in different trees")
        source.rename(old_rest, new_rest)

    def link(self, existing: str, new: str) -> None:
        (source, old_rest), (target, new_rest) = self._route(existing), self._route(new)
        if source is not target:
            raise CrossTree(f"{existing} and {new} lie in different trees")
        source.link(old_rest, new_rest)

    def set_time(self, path: str, mtime_ns: int) -> None:
        if path == self._root:
            return
        tree, rest = self._route(path)
        tree.set_time(rest, mtime_ns)

    def drain(self) -> None:
        try:
            self._outer.drain()
        finally:
            self._inner.drain()

    def _route(self, path: str) -> tuple[Tree, str]:
        if path == self._root:
            return self._inner, "/"
        if path.startswith(f"{self._root}/"):
            return self._inner, path[len(self._root) :]
        return self._outer, path

    def _refuse_root(self, path: str) -> None:
        if path == self._root:
            raise Busy(f"{path} is the drop box")
