"""What stat shows of one file or directory. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attributes:
    """`size` in bytes, `mtime_ns` since the epoch.

    `version` names the bytes: equal versions, equal bytes; "" where they may change at any time.
    `in_parts`: programs want small parts of it, which lie anywhere.
    """

    is_directory: bool
    size: int
    mtime_ns: int
    version: str = ""
    read_only: bool = False
    in_parts: bool = False
