"""Whether of a block all is fetched, or the few pieces that are wanted of it.

A header here and a record there must not drag megabytes along; who reads on and on must not pay
for a request every few kilobytes. Remembers what was asked for; fetches and keeps nothing.
"""

from __future__ import annotations

import threading

from cachetools import LRUCache

from zarrfuse.cache.format import BlockId
from zarrfuse.core.blocks import Block, Pieces

#: Blocks that were read in pieces, and of which it is remembered which; some 200 bytes each.
_REMEMBERED = 8192


class Grain:
    """Thread-safe; the lock is a leaf."""

    def __init__(self, piece_bytes: int) -> None:
        self._pieces = Pieces(piece_bytes)
        self._lock = threading.Lock()
        self._asked: LRUCache[BlockId, int] = LRUCache(_REMEMBERED)

    def of(self, whole: BlockId, start: int, stop: int) -> list[BlockId]:
        """What to fetch of the block `whole` for a reader of [start, stop): the pieces that it
        touches, or the block, once half of its pieces were asked for."""
        touched = self._pieces.touched(_range_of(whole), start, stop)
        enough = -(-self._pieces.count(_range_of(whole)) // 2)
        if len(touched) >= enough or self._asked_for(whole, touched) >= enough:
            with self._lock:
                self._asked.pop(whole, None)
            return [whole]
        return self._cut(whole, touched)

    def inner(self, whole: BlockId, start: int, stop: int) -> list[BlockId]:
        """The same where the bytes around [start, stop) are not the reader's: never the block for
        the sake of its pieces."""
        touched = self._pieces.touched(_range_of(whole), start, stop)
        if len(touched) >= self._pieces.count(_range_of(whole)):
            return [whole]
        return self._cut(whole, touched)

    def _asked_for(self, whole: BlockId, touched: range) -> int:
        """How many of its pieces were asked for by now, these included."""
        with self._lock:
            asked = self._asked.get(whole, 0)
            for number in touched:
                asked |= 1 << number
            self._asked[whole] = asked
        return asked.bit_count()

    def _cut(self, whole: BlockId, touched: range) -> list[BlockId]:
        pieces = (self._pieces.piece(_range_of(whole), number) for number in touched)
        return [whole._replace(start=piece.start, stop=piece.stop) for piece in pieces]


def _range_of(block: BlockId) -> Block:
    return Block(block.start, block.stop)
