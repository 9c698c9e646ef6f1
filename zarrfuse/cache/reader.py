"""Reads objects through the caches: memory, then disk, then one GET for all who want the block.

Owns the order in which places are asked, and what is joined into one request. It knows versions
(ObjectMeta) and ranges; not paths, not handles, not Zarr, and not how a tier keeps its blocks.
Blocks are kept under the ETag that the caller's ObjectMeta carries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zarrfuse.cache.counters import Counters
from zarrfuse.cache.format import BlockId
from zarrfuse.cache.grain import Grain
from zarrfuse.cache.single_flight import Claim, SingleFlight
from zarrfuse.cache.tiers import DiskTier, Reservation, Tier
from zarrfuse.cache.versions import Source, VersionedGet
from zarrfuse.config import MIB, Cache
from zarrfuse.core.blocks import Block, BlockLayout, runs
from zarrfuse.core.keys import ObjectMeta

#: Missing neighbours of one read are fetched together up to this: it takes 130 ms at 1 Gbit/s, so
#: that a further round trip of 50 ms does not matter much, and it bounds the memory of one read.
_RUN_BYTES = 16 * MIB

#: What to fetch of a block for a reader of [start, stop).
Cut = Callable[[BlockId, int, int], list[BlockId]]


class CachingReader:
    """Bytes of objects of one bucket. All calls may come from any thread.

    `bucket` tells buckets apart that share a cache: the endpoint and the name, without secrets.
    The tiers belong to the caller, who closes them.
    """

    def __init__(
        self, store: Source, disk: DiskTier, memory: Tier, config: Cache, *, bucket: str
    ) -> None:
        self._versions = VersionedGet(store)
        self._disk = disk
        self._memory = memory
        self._bucket = bucket
        self._layout = BlockLayout(int(config.block_bytes), int(config.whole_bytes))
        self._grain = Grain(int(config.piece_bytes))
        self._flights: SingleFlight[BlockId, bytes] = SingleFlight()
        self._looks: SingleFlight[BlockId, bytes | None] = SingleFlight()
        self._counters = Counters(
            "hits_memory", "hits_disk", "misses", "fetches", "fetched_bytes", "read_bytes"
        )

    def read(self, meta: ObjectMeta, start: int, stop: int) -> bytes:
        """The bytes [start, stop) of that version, clipped at its size.

        VersionChanged where it is gone and not cached; else the store's errors.
        """
        return self._read(meta, start, stop, self._cut_for(meta))

    def fetch(self, meta: ObjectMeta, start: int, stop: int) -> None:
        """Brings into the caches what `read` would give; with its errors, without a copy."""
        self._blocks(meta, start, stop, self._cut_for(meta))

    def is_near(self, meta: ObjectMeta) -> bool:
        """Whether the whole object is in memory, or on the disk and on its way into memory."""
        blocks = self._layout.covering(meta.size, 0, meta.size)
        ids = [self._id(meta, block) for block in blocks]
        return all(self._memory.has(block) or self._disk.read_ahead(block) for block in ids)

    def read_inner(self, meta: ObjectMeta, start: int, stop: int) -> bytes:
        """The same of an object whose other bytes are not wanted, as of a chunk in a shard.

        Nothing is fetched but the pieces that the range touches, however small the object is.
        """
        return self._read(meta, start, stop, self._grain.inner)

    def keep(self, meta: ObjectMeta, data: bytes) -> None:
        """Has what was just published as `meta` at hand for who reads it back.

        In memory only: on disk it would be the second copy that its writer waits for.
        """
        if len(data) != meta.size:
            raise ValueError(f"{len(data)} bytes for {meta.key}, which has {meta.size}")
        self._versions.published(meta)
        for block in self._layout.covering(meta.size, 0, meta.size):
            self._memory.put(self._id(meta, block), data[block.start : block.stop])

    def snapshot(self) -> dict[str, int]:
        """Counters since the start, and what is kept now, for `status`."""
        return {**self._counters.snapshot(), **self._memory.snapshot(), **self._disk.snapshot()}

    def _cut_for(self, meta: ObjectMeta) -> Cut:
        return self._grain.of if meta.size > self._layout.whole_bytes else _uncut

    def _read(self, meta: ObjectMeta, start: int, stop: int, cut: Cut) -> bytes:
        data = _joined(self._blocks(meta, start, stop, cut), start, min(stop, meta.size))
        self._counters.add("read_bytes", len(data))
        return data

    def _blocks(
        self, meta: ObjectMeta, start: int, stop: int, cut: Cut
    ) -> list[tuple[BlockId, bytes]]:
        """Blocks and pieces that together hold the range, in order; those missing are fetched."""
        covering = self._layout.covering(meta.size, start, stop)
        blocks = [self._id(meta, block) for block in covering]
        found = self._from_memory(blocks)
        ids: list[BlockId] = []
        for block in blocks:
            if block in found:
                ids.append(block)
            else:
                ids += self._cut_up(block, cut(block, start, stop), found)
        missing = [block for block in ids if block not in found]
        if missing:
            found |= self._obtain(meta, missing)
        return [(block, found[block]) for block in ids]

    def _cut_up(
        self, block: BlockId, pieces: list[BlockId], found: dict[BlockId, bytes]
    ) -> list[BlockId]:
        """The pieces, unless all of the block is on its way or here; adds to `found` what is."""
        if pieces == [block] or self._flights.is_open(block):
            return [block]
        held = self._from_memory(pieces)
        if len(held) < len(pieces):
            data = self._whole_from_disk(block)
            if data is not None:
                found[block] = data
                return [block]
        found |= held
        return pieces

    def _whole_from_disk(self, block: BlockId) -> bytes | None:
        """The block, once for all who ask at the same time: its checksum needs all of its bytes."""
        with self._looks.claim([block]) as claim:
            for key in claim.mine:
                data = self._memory.get(key) or self._disk.get(key)
                if data is not None:
                    self._counters.add("hits_disk")
                    self._memory.put(key, data)
                claim.land(key, data)
        return claim.results()[block]

    def _id(self, meta: ObjectMeta, block: Block) -> BlockId:
        return BlockId(self._bucket, meta.key, meta.etag, block.start, block.stop)

    def _from_memory(self, blocks: Iterable[BlockId]) -> dict[BlockId, bytes]:
        found = {}
        for block in blocks:
            data = self._memory.get(block)
            if data is not None:
                found[block] = data
                self._disk.touch(block)
        self._counters.add("hits_memory", len(found))
        return found

    def _obtain(self, meta: ObjectMeta, blocks: list[BlockId]) -> dict[BlockId, bytes]:
        with self._flights.claim(blocks) as claim:
            absent = [block for block in claim.mine if not self._found_again(block, claim)]
            self._counters.add("misses", len(absent))
            by_range = {Block(block.start, block.stop): block for block in absent}
            for run in runs(by_range, _RUN_BYTES):
                self._fetch(meta, [by_range[block] for block in run], claim)
        return claim.results()

    def _found_again(self, block: BlockId, claim: Claim[BlockId, bytes]) -> bool:
        """Whether it is in memory after all (another flight landed in between), or on disk."""
        data = self._memory.get(block)
        if data is None:
            data = self._disk.get(block)
            if data is None:
                return False
            self._counters.add("hits_disk")
            self._memory.put(block, data)
        claim.land(block, data)
        return True

    def _fetch(self, meta: ObjectMeta, run: list[BlockId], claim: Claim[BlockId, bytes]) -> None:
        """One GET for neighbouring blocks; room on disk is taken before, waiters go on first."""
        rooms = {block: self._disk.reserve(block) for block in run}
        try:
            data = self._versions.get(meta, run[0].start, run[-1].stop)
        except BaseException:
            _cancel(rooms.values())
            raise
        self._counters.add("fetches")
        self._counters.add("fetched_bytes", len(data))
        base = run[0].start
        parts = {block: data[block.start - base : block.stop - base] for block in run}
        for block, part in parts.items():
            self._memory.put(block, part)
            claim.land(block, part)
        for block, room in rooms.items():
            if room is not None:
                room.store(parts[block])


def _uncut(block: BlockId, start: int, stop: int) -> list[BlockId]:
    return [block]


def _cancel(rooms: Iterable[Reservation | None]) -> None:
    for room in rooms:
        if room is not None:
            room.cancel()


def _joined(blocks: list[tuple[BlockId, bytes]], start: int, stop: int) -> bytes:
    """The bytes [start, stop) of consecutive blocks; copies nothing where one block is all."""
    start = max(start, 0)
    parts = [
        data[max(start - block.start, 0) : max(stop - block.start, 0)] for block, data in blocks
    ]
    return parts[0] if len(parts) == 1 else b"".join(parts)
