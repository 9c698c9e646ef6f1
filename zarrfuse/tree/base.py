"""A file system of paths, as the mount sees it: no FUSE in it, and no bucket.

Paths are absolute inside the tree and begin with "/". All calls may come from any thread; errors
are those of zarrfuse.errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from zarrfuse.core.attributes import Attributes
from zarrfuse.errors import BadHandle


@dataclass(frozen=True, slots=True)
class Opening:
    """How a file is opened. `opener` is the process (Tgid), 0 if unknown; `mode` of a creation."""

    read_only: bool
    truncate: bool = False
    exclusive: bool = False
    opener: int = 0
    mode: int = 0o666


class Handle(Protocol):
    """An open file."""

    @property
    def attributes(self) -> Attributes:
        """Of the version that this handle reads."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """The bytes there; fewer only at the end of the file."""
        ...

    def write(self, offset: int, data: bytes) -> int: ...

    def truncate(self, size: int) -> None: ...

    def flush(self, caller: int) -> None:
        """close() by the process `caller` (Tgid; 0 = unknown)."""
        ...

    def sync(self) -> None:
        """fsync(): returns when the promise of docs/SEMANTICS.md holds."""
        ...

    def release(self) -> None:
        """The last descriptor is gone. Never raises."""
        ...


class ReadOnlyHandle:
    """The writing half of a handle that takes no writes."""

    def write(self, offset: int, data: bytes) -> int:
        raise BadHandle("the file is open for reading only")

    def truncate(self, size: int) -> None:
        raise BadHandle("the file is open for reading only")

    def flush(self, caller: int) -> None:
        """Nothing was written."""

    def sync(self) -> None:
        """Nothing was written."""

    def release(self) -> None:
        """Holds nothing."""


class Tree(Protocol):
    """Everything a mount can be asked."""

    def attributes(self, path: str) -> Attributes: ...

    def entries(self, path: str) -> Iterator[tuple[str, Attributes]]:
        """The directory's entries without "." and "..", sorted by name."""
        ...

    def open(self, path: str, how: Opening) -> Handle:
        """Opens a file that exists."""
        ...

    def create(self, path: str, how: Opening) -> Handle:
        """Opens a file, made if it is not there."""
        ...

    def truncate(self, path: str, size: int) -> None: ...

    def mkdir(self, path: str) -> None: ...

    def rmdir(self, path: str) -> None: ...

    def unlink(self, path: str) -> None: ...

    def rename(self, old: str, new: str) -> None: ...

    def link(self, existing: str, new: str) -> None: ...

    def set_time(self, path: str, mtime_ns: int) -> None:
        """utimens: accepted; docs/SEMANTICS.md says how long it lasts."""
        ...

    def drain(self) -> None:
        """Finishes publishing what no program has open any more."""
        ...
