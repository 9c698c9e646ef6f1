"""Pieces of objects on their way into the cache: several at a time, bounded in bytes.

Knows neither what is wanted nor why; `bring` does the work of one piece. For one thread, which
starts pieces and collects them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import structlog

from zarrfuse.cache.format import BlockId
from zarrfuse.core.keys import ObjectMeta
from zarrfuse.errors import StoreError

log = structlog.get_logger(__name__)

NOT_KEPT = "the cache had no room for it, or could not write it: see the daemon's log"


@dataclass(slots=True)
class Item:
    """An object that is being fetched: pieces still on their way, and what went wrong first."""

    meta: ObjectMeta
    left: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring blocks of an object, which one request fetches."""

    item: Item
    blocks: tuple[BlockId, ...]

    @property
    def size(self) -> int:
        return self.blocks[-1].stop - self.blocks[0].start


class PiecesInFlight:
    """At most `at_once` pieces and `max_bytes`; a larger piece goes alone.

    `bring` fetches a piece and answers whether the cache has it now.
    """

    def __init__(self, bring: Callable[[Piece], bool], *, at_once: int, max_bytes: int) -> None:
        self._bring = bring
        self._at_once = at_once
        self._max_bytes = max_bytes
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="warm")
        self._flights: dict[Future[bool], Piece] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._flights)

    def has_room(self, size: int) -> bool:
        """Whether a piece of that size may start."""
        fits = not self._flights or self._bytes + size <= self._max_bytes
        return fits and len(self._flights) < self._at_once

    def start(self, piece: Piece) -> None:
        self._bytes += piece.size
        self._flights[self._pool.submit(self._bring, piece)] = piece

    def landed(self, within_s: float) -> list[tuple[Piece, str]]:
        """What has ended since, each with "" or the reason why it is not in the cache; waits for
        the first, or for the time."""
        if not self._flights:
            time.sleep(within_s)
        done, _ = wait(self._flights, timeout=within_s, return_when=FIRST_COMPLETED)
        ended = [(self._flights.pop(future), _reason(future)) for future in done]
        self._bytes -= sum(piece.size for piece, _ in ended)
        return ended

    def close(self) -> None:
        """What has not begun never does; what is under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _reason(future: Future[bool]) -> str:
    error = future.exception()
    match error:
        case None:
            return "" if future.result() else NOT_KEPT
        case StoreError():
            return str(error)
        case _:
            log.error("warming failed unexpectedly", exc_info=error)
            return "it failed unexpectedly: see the daemon's log"
