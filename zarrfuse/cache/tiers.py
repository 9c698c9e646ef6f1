"""What the caching reader asks of a place for blocks, and the place that keeps nothing.

A tier never raises for trouble of its own: what it cannot give is a miss, what it cannot keep is
not kept. All calls may come from any thread.
"""

from __future__ import annotations

from typing import Protocol

from zarrfuse.cache.format import BlockId


class Tier(Protocol):
    """Blocks by identity."""

    def get(self, block: BlockId) -> bytes | None:
        """All bytes of the block, or None."""
        ...

    def has(self, block: BlockId) -> bool:
        """Whether `get` would most likely find it; cheap, and no use of the block."""
        ...

    def put(self, block: BlockId, data: bytes) -> bool:
        """Keeps `data`, of exactly the block's length; False where there is no room."""
        ...

    def snapshot(self) -> dict[str, int]:
        """Counters and sizes, for `status`."""
        ...


class Reservation(Protocol):
    """Room for one block, held until `store` or `cancel`; one of them must be called, once."""

    def store(self, data: bytes) -> bool:
        """Fills the room. False if it could not be written, or was lost meanwhile."""
        ...

    def cancel(self) -> None:
        """Gives the room back."""
        ...


class DiskTier(Tier, Protocol):
    """A tier with a limit that is asked for room before the block is fetched."""

    def reserve(self, block: BlockId) -> Reservation | None:
        """Room for the block, made by evicting others; None: serve it without keeping it."""
        ...

    def read_ahead(self, block: BlockId) -> bool:
        """Whether the block is kept; if so, `get` will soon find it in memory."""
        ...

    def touch(self, block: BlockId) -> None:
        """The block was used, though not read from here."""
        ...

    def close(self) -> None:
        """Writes down what is only in memory. No call may follow."""
        ...


class NoDisk:
    """The disk tier of a daemon without one."""

    def get(self, block: BlockId) -> bytes | None:
        return None

    def put(self, block: BlockId, data: bytes) -> bool:
        return False

    def reserve(self, block: BlockId) -> Reservation | None:
        return None

    def has(self, block: BlockId) -> bool:
        return False

    def read_ahead(self, block: BlockId) -> bool:
        return False

    def touch(self, block: BlockId) -> None:
        return None

    def snapshot(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        return None
