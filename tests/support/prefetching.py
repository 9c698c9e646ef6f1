"""A bucket in memory behind the prefetcher, and programs that read it as through a kernel."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import MemoryStore as ZarrMemory
from zarr.storage import WrapperStore

from tests.support.mounts import DEADLINE_S
from zarrfuse.cache.memory import MemoryBlocks
from zarrfuse.cache.prefetch import Names, Prefetcher, PrefetchingReader
from zarrfuse.cache.reader import CachingReader
from zarrfuse.cache.tiers import NoDisk
from zarrfuse.config import MIB, Cache, Prefetch
from zarrfuse.core.keys import ETag, Key, ObjectMeta
from zarrfuse.listing.listing import Listing
from zarrfuse.store.base import Fetched
from zarrfuse.store.faults import FaultyStore
from zarrfuse.store.memory import MemoryStore
from zarrfuse.store.wrapper import Call

PAGE = 4096


class CountingStore(MemoryStore):
    """Notes who asks for bytes: the prefetcher, from threads named so, or a program."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: 1_000_000.0)
        self.bytes = 0
        #: Keys for whose bytes a program had to wait.
        self.waited: list[str] = []

    def get(
        self, key: Key, *, start: int = 0, stop: int | None = None, if_match: ETag | None = None
    ) -> Fetched:
        fetched = super().get(key, start=start, stop=stop, if_match=if_match)
        self.bytes += len(fetched.data)
        if not threading.current_thread().name.startswith("prefetch"):
            self.waited.append(key.removeprefix("s.zarr/"))
        return fetched


class World:
    """A watched reader of these objects, which lie below `s.zarr/`."""

    def __init__(
        self,
        objects: Mapping[str, bytes],
        config: Prefetch | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.memory = CountingStore()
        self.store = FaultyStore(self.memory)
        for name, data in objects.items():
            self.put(name, data)
        cache = cache or Cache()
        self.listing = Listing(self.store, ttl_s=600, settle_s=0, page_rows=1000, max_keys=100_000)
        inner = CachingReader(self.store, NoDisk(), MemoryBlocks(256 * MIB), cache, bucket="b")
        names = Names(
            self.listing.listed,
            self.listing.fresh,
            self.listing.children,
            lambda prefix, grid: self.listing.flatten(prefix, objects=grid.count),
        )
        self.prefetcher = Prefetcher(inner, names, config or Prefetch(), cache)
        self.reader = PrefetchingReader(inner, self.prefetcher)

    def put(self, name: str, data: bytes | str) -> None:
        self.memory.put(Key(f"s.zarr/{name}"), data.encode() if isinstance(data, str) else data)

    def meta(self, name: str) -> ObjectMeta | None:
        key = Key(f"s.zarr/{name}")
        row = self.listing.lookup(key.parent, key.name)
        return row if isinstance(row, ObjectMeta) else None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        meta = self.meta(name)
        assert meta is not None
        return self.reader.read(meta, start, meta.size if stop is None else stop)

    def calls(self, verb: str) -> list[Call]:
        return [call for call in self.store.calls if call.verb == verb]

    def gets(self) -> list[str]:
        return [call.key.removeprefix("s.zarr/") for call in self.calls("get")]

    def settle(self) -> None:
        """Waits until nothing is on its way."""
        until = time.monotonic() + DEADLINE_S
        while self.prefetcher.waiting():
            assert time.monotonic() < until, "the prefetcher is not idle"
            time.sleep(0.0005)


class Kernel(WrapperStore[ZarrMemory]):
    """A store for zarr-python that opens and reads as its LocalStore does on a mount: whole pages,
    in requests of 1 MiB, each page once. `asked` is what the program needs, in bytes.

    After each read nothing is on its way, so that what is fetched does not depend on threads.
    """

    def __init__(self, world: World) -> None:
        super().__init__(ZarrMemory(read_only=True))
        self.world = world
        self.asked = 0
        self._pages: dict[tuple[str, int], bytes] = {}
        self._lock = threading.Lock()

    def _with_store(self, store: ZarrMemory) -> Kernel:
        return self

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        data = await asyncio.to_thread(self._get, key, byte_range)
        return None if data is None else prototype.buffer.from_bytes(data)

    async def exists(self, key: str) -> bool:
        return self.world.meta(key) is not None

    def forget(self) -> None:
        """It had no room for the pages."""
        with self._lock:
            self._pages.clear()

    def touched(self, piece_bytes: int) -> int:
        """The bytes of the pieces in which the pages lie that were read."""
        pieces = {(key, at // piece_bytes * piece_bytes) for key, at in self._pages}
        sizes = {key: meta.size for key, _ in pieces if (meta := self.world.meta(key)) is not None}
        return sum(min(piece_bytes, sizes[key] - at) for key, at in pieces)

    def _get(self, key: str, byte_range: ByteRequest | None) -> bytes | None:
        with self._lock:
            meta = self.world.meta(key)
            if meta is None:
                return None
            self.world.prefetcher.opened(meta)
            start, stop = _range(byte_range, meta.size)
            self.asked += stop - start
            for at in range(start - start % PAGE, stop, MIB):
                self._load(meta, key, at, min(at + MIB, stop))
            first = start - start % PAGE
            data = b"".join(self._pages[key, at] for at in range(first, stop, PAGE))
            return data[start - first : stop - first]

    def _load(self, meta: ObjectMeta, key: str, start: int, stop: int) -> None:
        missing = [at for at in range(start, stop, PAGE) if (key, at) not in self._pages]
        if not missing:
            return
        first, last = missing[0], min(missing[-1] + PAGE, meta.size)
        data = self.world.reader.read(meta, first, last)
        self.world.settle()
        for at in range(first, last, PAGE):
            self._pages[key, at] = data[at - first : at - first + PAGE]


def _range(request: ByteRequest | None, size: int) -> tuple[int, int]:
    match request:
        case None:
            return 0, size
        case RangeByteRequest(start=start, end=end):
            return start, min(end, size)
        case OffsetByteRequest(offset=offset):
            return offset, size
        case SuffixByteRequest(suffix=suffix):
            return max(0, size - suffix), size
    raise AssertionError(request)


def objects_of(store: ZarrMemory) -> dict[str, bytes]:
    """What zarr-python wrote into a store in memory."""
    return {key: value.to_bytes() for key, value in store._store_dict.items()}
