"""Which objects a warm request names, as the bucket lists them now. Reads no bytes of any.

Pages go by and are not kept: a store of a million chunks must not fill the memory of the listing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from zarrfuse.cache.warming import ChunkBox, WarmRequest
from zarrfuse.core.keys import ROOT, Key, ObjectMeta, Prefix, path_key
from zarrfuse.core.zarr.boxes import MAX_COUNT, Box
from zarrfuse.core.zarr.metadata import ArrayGrid, ChunkEncoding
from zarrfuse.errors import ExitCode, UserError
from zarrfuse.listing.listing import Listing
from zarrfuse.listing.positions import just_before
from zarrfuse.store.base import ListPages
from zarrfuse.store.limit import in_background

#: HEADs at the same time for objects that a listing says have no bytes.
_HEADS_AT_ONCE = 16
#: Chunks are looked for in so many stretches of so many keys at the same time: a page for each
#: where all chunks of the array are wanted, up to a page for each key where few are.
_STRETCHES_AT_ONCE = 8
_STRETCH_KEYS = 1000


class Wanted:
    """Thread-safe: it has no state of its own."""

    def __init__(self, listing: Listing, pages: ListPages) -> None:
        self._listing = listing
        self._pages = pages

    def rows(self, request: WarmRequest) -> Iterator[ObjectMeta]:
        """Each object once per part of the request that names it. UserError for a tree that is not
        there; files and chunks that are not there are left out."""
        for path in request.files:
            key = path_key(path)
            row = self._listing.listed(key.parent, key.name)
            if isinstance(row, ObjectMeta):
                yield from self._sized([row])
        for path in request.trees:
            yield from self._tree(path_key(path))
        for box in request.boxes:
            chunks = _box(box)
            if chunks.count > MAX_COUNT:
                raise UserError(
                    f"/{path_key(box.array)}: {chunks.count} chunks are asked for, and {MAX_COUNT} "
                    "is the most; select fewer, or warm the whole array by its path",
                    ExitCode.USAGE,
                )
            yield from self._sized(self._chunks(path_key(box.array).as_prefix, chunks))

    def _tree(self, key: Key) -> Iterator[ObjectMeta]:
        row = self._listing.lookup(key.parent, key.name) if key else ROOT
        if row is None:
            raise UserError(f"/{key}: the bucket has nothing of that name", ExitCode.NO_INPUT)
        if isinstance(row, ObjectMeta):
            yield row
            return
        yield from self._sized(self._listing.walk(row))

    def _sized(self, rows: Iterable[ObjectMeta]) -> Iterator[ObjectMeta]:
        """Those that a listing says have no bytes come last, as a HEAD describes them."""
        empty = []
        for meta in rows:
            if meta.size:
                yield meta
            elif meta.key.name:  # else: an object that stands for the directory itself
                empty.append(meta.key)
        if empty:
            yield from self._true_rows(empty)

    def _true_rows(self, keys: list[Key]) -> Iterator[ObjectMeta]:
        """By HEAD: a listing says 0 of natively segmented objects."""
        pool = ThreadPoolExecutor(_HEADS_AT_ONCE, thread_name_prefix="warm-head")
        try:
            for row in pool.map(lambda key: self._listing.lookup(key.parent, key.name), keys):
                if isinstance(row, ObjectMeta):
                    yield row
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _chunks(self, array: Prefix, box: Box) -> Iterator[ObjectMeta]:
        """In key order, from a few stretches of the keys side by side."""
        keys = (array.file(text) for text in box.in_key_order())
        pool = ThreadPoolExecutor(_STRETCHES_AT_ONCE, thread_name_prefix="warm-list")
        stretches: deque[Future[list[ObjectMeta]]] = deque()
        try:
            while stretch := list(islice(keys, _STRETCH_KEYS)):
                stretches.append(pool.submit(self._listed, array, stretch))
                if len(stretches) == _STRETCHES_AT_ONCE:
                    yield from stretches.popleft().result()
            while stretches:
                yield from stretches.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _listed(self, array: Prefix, keys: list[Key]) -> list[ObjectMeta]:
        """The rows of sorted keys, of those that are there: keys and pages go up side by side, and
        a page that would tell of none of them is not asked for."""
        found: list[ObjectMeta] = []
        told: dict[Key, ObjectMeta] = {}
        last: str | None = ""
        for key in keys:
            if last is not None and key > last:
                with in_background():
                    page = self._pages.list_page(array, after=just_before(key))
                told = {meta.key: meta for meta in page.objects}
                last = page.next_after
            if key in told:
                found.append(told[key])
        return found


def _box(asked: ChunkBox) -> Box:
    """In a grid that reaches as far as the box: keys need no more of it."""
    encoding = ChunkEncoding(asked.separator, asked.prefix, asked.version)
    stops = tuple(stop for _, stop in asked.ranges)
    return Box(ArrayGrid(stops, (1,) * len(stops), encoding), asked.ranges)
