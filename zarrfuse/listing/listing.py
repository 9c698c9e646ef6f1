"""What stands in the bucket: answered from LIST pages, with our own changes laid over them.

Knows names, sizes, ETags and times; no bytes, no spool, no kernel. A page answers a thousand
look-ups; a look-up in a directory of a million names asks for one page from that name on and never
lists it all. Our own changes are seen at once and are believed over a listing for `ttl_s`, because
Swift's listings may lag behind; after that the listing is the truth.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import structlog

from zarrfuse.core.keys import Key, ObjectMeta, Prefix
from zarrfuse.errors import NotFound, StoreError, Unavailable
from zarrfuse.listing.asking import Asking
from zarrfuse.listing.fetcher import Fetcher
from zarrfuse.listing.known import EVER, Changed, Known
from zarrfuse.listing.pages import Pages
from zarrfuse.listing.roots import Root, Splits
from zarrfuse.listing.rows import Row
from zarrfuse.listing.sizes import Sizes
from zarrfuse.listing.turns import Turns
from zarrfuse.store.base import Head, ListPages

log = structlog.get_logger(__name__)

#: Arrays of at most so many chunks are coordinates: they are read as soon as a store is opened.
_FEW_OBJECTS = 4


class Source(Head, ListPages, Protocol):
    """What a Listing asks of the bucket."""


def boot_time() -> float:
    """Seconds that go on while the machine sleeps, as time.monotonic does not: what was known
    before a night's sleep is eight hours old."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Listing:
    """Thread-safe. `_sweeps` lets one thread at a time ask for all of the same directory, so that
    the next finds it answered.

    `ttl_s`: a change made elsewhere is seen within this; listings are used for half of it, the
    kernel may keep what it was told for the other half. `settle_s`: see config.Listing. At most
    `max_keys` rows are remembered. `changed` hears of names that are not what was known of them; it
    is called on any thread, without a lock, and must not wait. `clock` in seconds, which go on
    while the machine sleeps; `now_ns` since the epoch.

    While the bucket is Unavailable, what stood there when it was last asked is an answer where it
    says so (`stale_ok`). That a name was absent then is none: somebody may have written it since,
    and a reader of an array would take fill values for data.
    """

    def __init__(
        self,
        source: Source,
        *,
        ttl_s: float,
        settle_s: float,
        page_rows: int,
        max_keys: int,
        changed: Changed | None = None,
        clock: Callable[[], float] = boot_time,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._source = source
        self._settle_ns = int(settle_s * 1e9)
        self._clock = clock
        self._now_ns = now_ns
        self._known = Known(ttl_s=ttl_s, max_keys=max_keys, clock=clock, changed=changed)
        self._pages = Pages(source, page_rows)
        self._fetcher = Fetcher(self._pages, self._known, clock)
        self._asking = Asking(self._known, self._fetcher)
        self._sweeps = Turns()
        self._lock = threading.Lock()
        self._sizes = Sizes(source, ttl_s, clock, self._count_stale)
        self._stale_answers = 0

    def close(self) -> None:
        """Ends the threads that ask for pages side by side. No call may follow."""
        self._fetcher.close()

    # What stands there ---------------------------------------------------------------------

    # Each may answer something that is up to `ttl_s` / 2 old, or our own change; beyond that:
    #            asks        presence of any age     absence
    # lookup     LIST, HEAD  in an outage, stale_ok  known, and by HEAD where the listing may lag
    # listed     LIST        in an outage, stale_ok  known, by listings alone
    # fresh      nothing     never                   known, or not known
    # remembered nothing     always                  known, of any age, or not known

    def lookup(self, parent: Prefix, name: str, *, stale_ok: bool = True) -> Row | None:
        """The file's meta, the directory's prefix, or None. Mostly one LIST, and one HEAD.

        With `stale_ok`, while the bucket is Unavailable, what stood there when last asked: enough
        for a reader, who asks for that very version. Whoever writes by it must not take that.
        """
        return self._lookup(parent, name, stale_ok=stale_ok)

    def listed(self, parent: Prefix, name: str, *, stale_ok: bool = True) -> Row | None:
        """As `lookup`, by listings alone: an absence or a size of 0 is not asked about."""
        return self._listed(parent, name, self._clock(), stale_ok=stale_ok)

    def remembered(self, parent: Prefix, name: str) -> Row | None:
        """What stood there when last asked, however long ago, without asking the bucket; None also
        where nothing is known. A hint: nothing may be refused or overwritten for a None."""
        return self._known.recall(parent, name, self._clock())[1]

    def fresh(self, parent: Prefix, name: str) -> Row | None:
        """What `listed` would answer without asking; None also where it would have to ask."""
        known, row = self._known.recall(parent, name, self._clock())
        return row if known else None

    def is_directory(self, prefix: Prefix, *, stale_ok: bool = False) -> bool:
        """Whether there is a directory; the root always is. `stale_ok`: see `children`."""
        if prefix.is_root:
            return True
        return isinstance(self._lookup(prefix.parent, prefix.name, stale_ok=stale_ok), Prefix)

    def children(self, prefix: Prefix, *, stale_ok: bool = False) -> list[tuple[str, Row]]:
        """Every entry of a directory by name, sorted; lists what is not known yet.

        With `stale_ok` as it was last known, if all of it was, while the bucket is Unavailable: for
        those who show it, never for those who remove, rename or overwrite by it.
        """
        # As of the beginning: the first of many pages grows too old to be used again before the
        # last has come, and listing would never end.
        asked_at = self._clock()
        found = self._known.entries(prefix, asked_at)
        if found is not None:
            return found
        try:
            with self._sweeps.of(prefix), self._known.pinned(self._asking.areas(prefix)):
                while (found := self._known.entries(prefix, asked_at)) is None:
                    self._asking.for_all(prefix, asked_at)
        except Unavailable:
            found = self._known.entries(prefix, EVER) if stale_ok else None
            if found is None:
                raise
            self._count_stale()
        return found

    def walk(self, prefix: Prefix) -> Iterator[ObjectMeta]:
        """Every object below `prefix`, as the bucket lists it now, with our own changes laid over:
        a listing that lags behind must not hide what we put, nor show what we deleted."""
        put, deleted = self._known.own_below(prefix)
        after: str | None = ""
        while after is not None:
            page = self._source.list_page(prefix, after=after, limit=self._pages.page_rows)
            for meta in page.objects:
                if meta.key not in deleted:
                    yield put.pop(meta.key, meta)
            after = page.next_after
        yield from put.values()

    def flatten(
        self, prefix: Prefix, *, objects: int | None = None, splits: Splits | None = None
    ) -> None:
        """Below `prefix` one page tells of all levels from now on: the chunks of a Zarr array lie
        in many small directories, and a request for each would cost as much as for each chunk.

        With about `objects` below it that are few pages, they are asked for together: a reader
        that goes backwards would else need a page for each name. Very few are asked for at once, in
        the background. `splits` gives sorted places below `prefix`, about so many keys apart.
        """
        self._known.add_root(prefix, Root(objects, splits))
        if objects is not None and objects <= _FEW_OBJECTS:
            self._asking.ahead(prefix, self._clock())

    # What we changed ourselves -------------------------------------------------------------

    def note_put(self, meta: ObjectMeta) -> None:
        """An object was published through this mount: seen at once."""
        self._known.note_put(meta)

    def note_deleted(self, key: Key) -> None:
        """An object was deleted through this mount. Its directory stays, until rmdir."""
        self._known.note_deleted(key)

    def announce_put(self, meta: ObjectMeta) -> None:
        """As `note_put`, of an object that did not come through the kernel, which must be told."""
        self._known.note_put(meta)
        self._known.announce(meta.key)

    def announce_deleted(self, key: Key) -> None:
        """As `note_deleted`, of an object that did not go through the kernel."""
        self._known.note_deleted(key)
        self._known.announce(key)

    def note_mkdir(self, prefix: Prefix) -> None:
        """A directory was made where nothing was: it is known to be empty."""
        self._known.note_mkdir(prefix)

    def note_rmdir(self, prefix: Prefix) -> None:
        self._known.note_rmdir(prefix)

    def forget(self, key: Key) -> None:
        """Drops what is known of the stretch an object lies in: it was not as listed. Our own
        changes to its neighbours are still believed."""
        self._known.forget(key)
        self._sizes.forget(key)

    def correct(self, key: Key) -> None:
        """A version that was listed is gone. HEAD says what stands there instead, which is believed
        over pages as our own changes are: a listing that lags behind would give the old version
        again and again. Where HEAD fails, whoever looks next asks anew."""
        self.forget(key)
        try:
            self._known.correct(key, self._source.head(key))
        except NotFound:
            self._known.correct(key, None)
        except StoreError as error:
            log.debug("what replaced a version is not known yet", key=key, error=str(error))
        self._known.announce(key)

    def snapshot(self) -> dict[str, int]:
        """Counts for the status report."""
        with self._lock:
            stale = self._stale_answers
        return {
            **self._known.snapshot(),
            "hidden_keys": self._pages.hidden,
            "stale_answers": stale,
        }

    # Asking for names ----------------------------------------------------------------------

    def _lookup(self, parent: Prefix, name: str, *, stale_ok: bool) -> Row | None:
        asked_at = self._clock()
        row = self._listed(parent, name, asked_at, stale_ok=stale_ok)
        if row is None and self._is_in_doubt(parent, name, asked_at):
            row = self._confirm(parent.file(name))
        if isinstance(row, ObjectMeta) and row.size == 0:
            row = self._sizes.of(row, stale_ok=stale_ok)
        return row

    def _listed(self, parent: Prefix, name: str, asked_at: float, *, stale_ok: bool) -> Row | None:
        known, row = self._known.recall(parent, name, asked_at)
        if known:
            return row
        try:
            return self._asking.for_name(parent, name, asked_at)
        except Unavailable:
            known, row = self._known.recall(parent, name, EVER)
            if not known or not stale_ok:
                raise
            if row is None and not self._known.is_surely_absent(parent, name):
                raise
            self._count_stale()
            return row

    def _is_in_doubt(self, parent: Prefix, name: str, asked_at: float) -> bool:
        """Whether an absence that was listed may be one that the listing has not heard of yet."""
        if self._known.is_surely_absent(parent, name):
            return False
        newer_ns = self._now_ns() - self._settle_ns
        if self._known.in_doubt(parent, name, newer_ns):
            return True
        self._asking.for_age(parent, asked_at)
        return self._known.in_doubt(parent, name, newer_ns)

    # Inside --------------------------------------------------------------------------------

    def _count_stale(self) -> None:
        with self._lock:
            self._stale_answers += 1

    def _confirm(self, key: Key) -> ObjectMeta | None:
        """Asks for one object by HEAD."""
        try:
            meta = self._source.head(key)
        except NotFound:
            self._known.confirm(key, None)
            return None
        self._known.confirm(key, meta)
        return meta
