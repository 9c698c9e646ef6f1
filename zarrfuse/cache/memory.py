"""Blocks in memory: a budget in bytes, least recently used out first. Knows nothing of the disk."""

from __future__ import annotations

import threading

from cachetools import LRUCache

from zarrfuse.cache.format import BlockId

#: What an entry costs beside its bytes: identity, key text, links (measured).
_ENTRY_BYTES = 512


def _cost(data: bytes) -> int:
    return len(data) + _ENTRY_BYTES


class MemoryBlocks:
    """A tier of at most `max_bytes`; 0 keeps nothing. The lock is a leaf."""

    def __init__(self, max_bytes: int) -> None:
        self._lock = threading.Lock()
        self._blocks: LRUCache[BlockId, bytes] = LRUCache(max_bytes, getsizeof=_cost)

    def get(self, block: BlockId) -> bytes | None:
        with self._lock:
            return self._blocks.get(block)

    def has(self, block: BlockId) -> bool:
        """As `get`, without counting as a use."""
        with self._lock:
            return block in self._blocks

    def put(self, block: BlockId, data: bytes) -> bool:
        if len(data) != block.size:
            raise ValueError(f"{len(data)} bytes for a block of {block.size}")
        if _cost(data) > self._blocks.maxsize:
            return False
        with self._lock:
            self._blocks[block] = data
        return True

    def snapshot(self) -> dict[str, int]:
        with self._lock:
            return {"memory_blocks": len(self._blocks), "memory_bytes": int(self._blocks.currsize)}
