"""Fills the disk tier ahead of time: lists what is wanted, skips what is there, fetches the rest.

Bytes go to the disk and past the memory tier, so that what programs use stays there. The work can
be broken off at any block and begun again: what is in the cache is its only state. Which objects
is cache/wanted's to know, and how pieces travel cache/warm_fetch's; nothing here knows who asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from zarrfuse.cache.format import BlockId, disk_bytes
from zarrfuse.cache.memory import MemoryBlocks
from zarrfuse.cache.pace import Pace
from zarrfuse.cache.reader import CachingReader
from zarrfuse.cache.tiers import DiskTier
from zarrfuse.cache.wanted import Wanted
from zarrfuse.cache.warm_fetch import NOT_KEPT, Item, Piece, PiecesInFlight
from zarrfuse.cache.warming import Missed, WarmProgress, WarmRequest, WarmState
from zarrfuse.config import MIB, Cache, Warm
from zarrfuse.core.blocks import Block, BlockLayout, runs
from zarrfuse.core.keys import ObjectMeta
from zarrfuse.errors import ExitCode, UserError
from zarrfuse.listing.listing import Listing
from zarrfuse.store.base import Get, Head, ListPages
from zarrfuse.store.limit import in_background

#: Between two lines of progress; also how soon it is noticed that nobody listens any more.
_TICK_S = 0.25
#: Of a large object so much is fetched with one request.
_PIECE_BYTES = 8 * MIB
#: Rows of objects to be fetched are kept up to this (30 MB), else they are listed a second time.
_KEPT_ROWS = 100_000
#: Objects that are named when they could not be fetched.
_NAMED = 20
#: After so many pieces that failed without a success between them nothing more is tried.
_HOPELESS = 32


class Source(Get, Head, ListPages, Protocol):
    """What warming asks of the bucket."""


@dataclass(slots=True)
class _Tally:
    """The counts of one request. `partial_bytes` are in the cache, of objects that are not there
    whole."""

    room_bytes: int
    objects: int = 0
    size_bytes: int = 0
    needed_bytes: int = 0
    cached: int = 0
    cached_bytes: int = 0
    partial_bytes: int = 0
    fetched: int = 0
    fetched_bytes: int = 0
    failed: int = 0
    missed: list[Missed] = field(default_factory=list)

    def told(self, state: WarmState) -> WarmProgress:
        return WarmProgress(
            state=state,
            objects=self.objects,
            size_bytes=self.size_bytes,
            cached=self.cached,
            cached_bytes=self.cached_bytes + self.partial_bytes,
            fetched=self.fetched,
            fetched_bytes=self.fetched_bytes,
            failed=self.failed,
            needed_bytes=self.needed_bytes,
            room_bytes=self.room_bytes,
            missed=tuple(self.missed),
        )

    def present(self, meta: ObjectMeta, absent_bytes: int) -> None:
        """Of an object so much is not in the cache."""
        if absent_bytes:
            self.partial_bytes += meta.size - absent_bytes
        else:
            self.cached += 1
            self.cached_bytes += meta.size

    def end(self, item: Item) -> None:
        """An object is through, with or without a reason why it is not in the cache."""
        if not item.reason:
            self.fetched += 1
            return
        self.failed += 1
        if len(self.missed) < _NAMED:
            self.missed.append(Missed(key=item.meta.key, reason=item.reason))


class Warmer:
    """Thread-safe: each request has its own state.

    `room_bytes` tells the most that the disk tier may hold as things are now, 0 where there is
    none. `bucket` as for the reader of the programs: what is warmed must be found by it.
    """

    def __init__(
        self,
        source: Source,
        listing: Listing,
        disk: DiskTier,
        cache: Cache,
        config: Warm,
        *,
        bucket: str,
        room_bytes: Callable[[], int],
    ) -> None:
        self.wanted = Wanted(listing, source)
        self.disk = disk
        self.config = config
        self.room_bytes = room_bytes
        self._bucket = bucket
        self._reader = CachingReader(source, disk, MemoryBlocks(0), cache, bucket=bucket)
        self._layout = BlockLayout(int(cache.block_bytes), int(cache.whole_bytes))
        self._closed = threading.Event()

    def run(self, request: WarmRequest) -> Generator[WarmProgress, None, None]:
        """Does it, and tells how it goes; the last line is the outcome. Closing it stops the work.

        UserError for a tree that is not in the bucket, and where nothing is kept on disk.
        """
        return _Run(self, request).lines()

    def close(self) -> None:
        """Has every request end with UserError, soon."""
        self._closed.set()

    def check_open(self) -> None:
        if self._closed.is_set():
            raise UserError("the mount is being taken away", ExitCode.UNAVAILABLE)

    def blocks(self, meta: ObjectMeta) -> list[BlockId]:
        """All blocks of an object, as the reader of the programs will ask for them."""
        return [
            BlockId(self._bucket, meta.key, meta.etag, block.start, block.stop)
            for block in self._layout.covering(meta.size, 0, meta.size)
        ]

    def absent(self, blocks: Iterable[BlockId]) -> list[BlockId]:
        return [block for block in blocks if not self.disk.has(block)]

    def bring(self, piece: Piece) -> bool:
        """Fetches a piece; whether the cache has it now."""
        with in_background():
            self._reader.fetch(piece.item.meta, piece.blocks[0].start, piece.blocks[-1].stop)
        return not self.absent(piece.blocks)


class _Run:
    """One request, from its listing to its last block. For one thread."""

    def __init__(self, warmer: Warmer, request: WarmRequest) -> None:
        self._warmer = warmer
        self._request = request
        self._tally = _Tally(warmer.room_bytes())
        self._missing: list[ObjectMeta] | None = []  # None: too many to be kept
        self._unkept: list[Item] = []
        self._in_a_row = 0  # failures since the last success
        self._is_hopeless = False
        self._told_at = 0.0

    def lines(self) -> Generator[WarmProgress, None, None]:
        tally = self._tally
        if tally.room_bytes <= 0:
            raise UserError(
                "this mount keeps nothing on disk: its cache has the size 0, its directory cannot "
                "be written, or the disk is full",
                ExitCode.CONFIG,
            )
        yield from self._survey()
        if tally.needed_bytes > tally.room_bytes:
            yield tally.told(WarmState.TOO_BIG)
            return
        if not self._request.dry_run and tally.cached < tally.objects:
            yield from self._fetch_all()
        yield tally.told(WarmState.GAVE_UP if self._is_hopeless else WarmState.DONE)

    def _survey(self) -> Iterator[WarmProgress]:
        """Counts everything, and what is there. That is used once more by this, so that what is
        fetched does not push it out."""
        tally = self._tally
        for meta in self._warmer.wanted.rows(self._request):
            blocks = self._warmer.blocks(meta)
            absent = self._warmer.absent(blocks)
            tally.objects += 1
            tally.size_bytes += meta.size
            tally.needed_bytes += sum(map(disk_bytes, blocks))
            tally.present(meta, _bytes(absent))
            if not self._request.dry_run:
                for block in set(blocks) - set(absent):
                    self._warmer.disk.touch(block)
            if absent:
                self._keep(meta)
            yield from self._beat(WarmState.LISTING)

    def _keep(self, meta: ObjectMeta) -> None:
        if self._missing is not None:
            self._missing.append(meta)
            if len(self._missing) > _KEPT_ROWS:
                self._missing = None

    def _fetch_all(self) -> Iterator[WarmProgress]:
        config, pace = self._warmer.config, Pace(self._request.bytes_per_s)
        fetching = PiecesInFlight(
            self._warmer.bring, at_once=config.at_once, max_bytes=int(config.bytes)
        )
        with closing(fetching):
            for piece in self._pieces():
                yield from self._beat(WarmState.FETCHING)
                while piece and (pace.pause_s() or not fetching.has_room(piece.size)):
                    yield from self._collect(fetching, pace.pause_s() or _TICK_S)
                if self._is_hopeless:
                    break
                if piece:
                    pace.take(piece.size)
                    fetching.start(piece)
            while len(fetching):
                yield from self._collect(fetching, _TICK_S)
        self._look_again()

    def _pieces(self) -> Iterator[Piece | None]:
        """What is missing still; None, as a beat, for an object that is there by now."""
        warmer, tally = self._warmer, self._tally
        tally.partial_bytes = 0  # counted anew as the objects come by
        if self._missing is None:
            tally.cached = tally.cached_bytes = 0
        for meta in warmer.wanted.rows(self._request) if self._missing is None else self._missing:
            absent = warmer.absent(warmer.blocks(meta))
            tally.present(meta, _bytes(absent))
            by_range = {Block(block.start, block.stop): block for block in absent}
            parts = runs(by_range, _PIECE_BYTES)
            item = Item(meta, len(parts))
            for part in parts:
                yield Piece(item, tuple(by_range[block] for block in part))
            if not parts:
                yield None

    def _collect(self, fetching: PiecesInFlight, within_s: float) -> Iterator[WarmProgress]:
        tally = self._tally
        for piece, reason in fetching.landed(min(within_s, _TICK_S)):
            item = piece.item
            item.left -= 1
            item.reason = item.reason or reason
            if reason in ("", NOT_KEPT):
                tally.fetched_bytes += piece.size
            self._in_a_row = self._in_a_row + 1 if reason else 0
            self._is_hopeless = self._is_hopeless or self._in_a_row >= _HOPELESS
            if not item.left and item.reason == NOT_KEPT:
                self._unkept.append(item)
            elif not item.left:
                tally.end(item)
        yield from self._beat(WarmState.FETCHING)

    def _look_again(self) -> None:
        """A block that the cache refused may have been on its way for somebody else."""
        for item in self._unkept:
            if not self._warmer.absent(self._warmer.blocks(item.meta)):
                item.reason = ""
            self._tally.end(item)

    def _beat(self, state: WarmState) -> Iterator[WarmProgress]:
        """A line, if it is time for one."""
        self._warmer.check_open()
        now = time.monotonic()
        if now - self._told_at >= _TICK_S:
            self._told_at = now
            yield self._tally.told(state)


def _bytes(blocks: Iterable[BlockId]) -> int:
    return sum(block.size for block in blocks)
