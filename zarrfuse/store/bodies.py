"""What a PUT sends, measured and read alike whether it is in memory or in a file. No network."""

from __future__ import annotations

import hashlib

from zarrfuse.store.base import Body


def size_of(body: Body) -> int:
    return len(body) if isinstance(body, bytes) else body.stat().st_size


def md5_of(body: Body) -> str:
    """Hexadecimal, as ETags state it."""
    if isinstance(body, bytes):
        return hashlib.md5(body, usedforsecurity=False).hexdigest()
    with body.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def piece_of(body: Body, start: int, stop: int) -> bytes:
    """The bytes [start, stop)."""
    if isinstance(body, bytes):
        return body[start:stop]
    with body.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


def whole_of(body: Body) -> bytes:
    return body if isinstance(body, bytes) else body.read_bytes()
