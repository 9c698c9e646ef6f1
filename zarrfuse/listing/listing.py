"""What stands in the bucket: answered from LIST pages, with our own changes laid over them.

Knows names, sizes, ETags and times; no bytes, no spool, no kernel. A page answers a thousand
look-ups; a look-up in a directory of a million names asks for one page from that name on and never
lists it all. Our own changes are seen at once and are believed over a listing for `ttl_s`, because
Swift's listings may lag behind; after that the listing is the truth.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import structlog
from cachetools import LRUCache

from zarrfuse.core.keys import Key, ObjectMeta, Prefix, is_file_name
from zarrfuse.core.zarr.names import is_impossible
from zarrfuse.errors import NotFound
from zarrfuse.listing.directory import Directory, Row
from zarrfuse.listing.flat import FlatPage
from zarrfuse.listing.spans import Span, just_before
from zarrfuse.listing.turns import Turns
from zarrfuse.store.base import Head, ListPages, Page

log = structlog.get_logger(__name__)

#: An array of at most so many pages is listed whole when the first of its chunks is looked up.
_WHOLE_PAGES = 4
#: Directories whose rows are kept; the least recently used is forgotten first.
MAX_DIRECTORIES = 10_000


class Source(Head, ListPages, Protocol):
    """What a Listing asks of the bucket."""


@dataclass(frozen=True, slots=True)
class _Own:
    """A change of our own: `row` stands there now, or nothing (None). Believed until `until`."""

    row: Row | None
    until: float


class Listing:
    """Thread-safe. `_lock` guards the memory below; no request is made under it. `_turns` lets one
    thread at a time ask for a page of the same directory, so that the next finds it answered.

    `ttl_s`: a change made elsewhere is seen within this; listings are used for half of it, the
    kernel may keep what it was told for the other half. `settle_s`: see config.Listing.
    `clock` in seconds, `now_ns` since the epoch.
    """

    def __init__(
        self,
        source: Source,
        *,
        ttl_s: float,
        settle_s: float,
        page_rows: int,
        clock: Callable[[], float] = time.monotonic,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._source = source
        self._ttl_s = ttl_s
        self._settle_ns = int(settle_s * 1e9)
        self._page_rows = page_rows
        self._clock = clock
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._turns = Turns()
        self._directories: LRUCache[Prefix, Directory] = LRUCache(MAX_DIRECTORIES)
        self._own: dict[Prefix, dict[str, _Own]] = {}
        self._own_order: deque[tuple[Prefix, str, _Own]] = deque()
        self._virtual: dict[Prefix, set[str]] = {}
        self._sized: LRUCache[tuple[Key, str], ObjectMeta] = LRUCache(MAX_DIRECTORIES)
        self._hidden: set[str] = set()
        self._flat: LRUCache[Prefix, bool] = LRUCache(MAX_DIRECTORIES)

    # What stands there ---------------------------------------------------------------------

    def lookup(self, parent: Prefix, name: str) -> Row | None:
        """The file's meta, the directory's prefix, or None. At most one LIST and one HEAD."""
        row = self.listed(parent, name)
        if row is None and self._in_doubt(parent, name):
            row = self._confirm(parent.file(name))
        if isinstance(row, ObjectMeta) and row.size == 0:
            row = self._with_true_size(row)
        return row

    def listed(self, parent: Prefix, name: str) -> Row | None:
        """As `lookup`, by listings alone: an absence or a size of 0 is not asked about."""
        known, row = self._recall(parent, name)
        if known:
            return row
        with self._turns.of(self._flat_root(parent) or parent):
            known, row = self._recall(parent, name)
            if not known:
                self._fetch(parent, just_before(name))
                known, row = self._recall(parent, name)
            if not known:  # a thousand names lie between `name` and `name/`
                self._fetch(parent, just_before(f"{name}/"))
                _, row = self._recall(parent, name)
        return row

    def remembered(self, parent: Prefix, name: str) -> Row | None:
        """As `lookup`, without asking the bucket: None also where nothing is known."""
        return self._recall(parent, name)[1]

    def is_directory(self, prefix: Prefix) -> bool:
        """Whether there is a directory; the root always is."""
        return prefix.is_root or isinstance(self.lookup(prefix.parent, prefix.name), Prefix)

    def children(self, prefix: Prefix) -> list[tuple[str, Row]]:
        """Every entry of a directory by name, sorted; lists what is not known yet."""
        # From the beginning of the question: the first of many pages grows too old to be used
        # again before the last has come, and listing would never end.
        since = self._since()
        while (after := self._first_gap(prefix, since)) is not None:
            self._fetch(prefix, after)
        with self._lock:
            rows = dict(self._directory(prefix).rows())
            for name in self._virtual.get(prefix, ()):
                rows[name] = prefix.directory(name)
        return sorted(rows.items())

    def walk(self, prefix: Prefix) -> Iterator[ObjectMeta]:
        """Every object below `prefix`, as the bucket lists it now, with our own changes laid over:
        a listing that lags behind must not hide what we put, nor show what we deleted."""
        put, deleted = self._own_below(prefix)
        after: str | None = ""
        while after is not None:
            page = self._source.list_page(prefix, after=after, limit=self._page_rows)
            for meta in page.objects:
                if meta.key not in deleted:
                    yield put.pop(meta.key, meta)
            after = page.next_after
        yield from put.values()

    def flatten(self, prefix: Prefix, *, objects: int) -> None:
        """Below `prefix` one page tells of all levels from now on: the chunks of a Zarr array lie
        in many small directories, and a request for each would cost as much as for each chunk.

        With about `objects` below it that are few pages, they are asked for together: a reader
        that goes backwards would else need a page for each name.
        """
        with self._lock:
            self._flat[prefix] = objects <= _WHOLE_PAGES * self._page_rows

    # What we changed ourselves -------------------------------------------------------------

    def note_put(self, meta: ObjectMeta) -> None:
        """An object was published through this mount: seen at once."""
        with self._lock:
            self._set(meta.key.parent, meta.key.name, meta)
            self._note_lineage(meta.key.parent)

    def note_deleted(self, key: Key) -> None:
        """An object was deleted through this mount. Its directory stays, until rmdir."""
        with self._lock:
            self._set(key.parent, key.name, None)
            self._keep_virtual(key.parent)

    def note_mkdir(self, prefix: Prefix) -> None:
        """A directory was made where nothing was: it is known to be empty."""
        with self._lock:
            self._keep_virtual(prefix)
            directory = Directory(prefix)
            directory.made_here = True
            directory.spans.add(Span("", None, self._clock()))
            self._directories[prefix] = directory

    def note_rmdir(self, prefix: Prefix) -> None:
        with self._lock:
            self._virtual.get(prefix.parent, set()).discard(prefix.name)
            self._set(prefix.parent, f"{prefix.name}/", None)
            self._directories.pop(prefix, None)
            self._keep_virtual(prefix.parent)

    def forget(self, key: Key) -> None:
        """Drops what is known of an object's directory: it was not as listed. Our own changes to
        its neighbours are still believed."""
        with self._lock:
            self._directories.pop(key.parent, None)
            self._own.get(key.parent, {}).pop(key.name, None)

    def snapshot(self) -> dict[str, int]:
        """Counts for the status report."""
        with self._lock:
            return {
                "directories": len(self._directories),
                "hidden_keys": len(self._hidden),
                "shadowed_objects": sum(d.shadowed() for d in self._directories.values()),
            }

    # Inside --------------------------------------------------------------------------------

    def _recall(self, parent: Prefix, name: str) -> tuple[bool, Row | None]:
        """Whether memory tells what `name` is, and what it is."""
        with self._lock:
            if name in self._virtual.get(parent, ()):
                return True, parent.directory(name)
            directory = self._directory(parent)
            own = self._own_of(parent, name)
            known = directory.knows(name, self._since()) or own is not None
            return known, directory.find(name)

    def _first_gap(self, prefix: Prefix, since: float) -> str | None:
        with self._lock:
            return self._directory(prefix).spans.gap(since)

    def _fetch(self, prefix: Prefix, after: str) -> None:
        """Asks for the page of names behind `after` and takes it in."""
        root = self._flat_root(prefix)
        if root is not None:
            self._fetch_flat(root, prefix, after)
            return
        sent_at = self._clock()
        page = self._source.list_page(
            prefix,
            after=f"{prefix}{after}" if after else "",
            delimiter=True,
            limit=self._page_rows,
        )
        rows = self._rows_of(prefix, page)
        last = None if page.next_after is None else page.next_after[len(prefix) :]
        with self._lock:
            directory = self._directory(prefix)
            directory.merge(Span(after, last, sent_at), rows)
            self._overlay(directory)

    def _flat_root(self, prefix: Prefix) -> Prefix | None:
        with self._lock:
            return next((here for here in prefix.lineage() if here in self._flat), None)

    def _fetch_flat(self, root: Prefix, prefix: Prefix, after: str) -> None:
        """Asks for a page of all keys below `root`, from that place on, or for all pages of a small
        root; each may fill many directories."""
        with self._lock:
            whole = self._flat.get(root, False)
        start: str | None = root if whole else f"{prefix}{after}"
        while start is not None:
            start = self._fetch_flat_page(root, prefix, start)
            if not whole:
                return

    def _fetch_flat_page(self, root: Prefix, asked: Prefix, start: str) -> str | None:
        """One page; where the next begins."""
        sent_at = self._clock()
        page = self._source.list_page(root, after=start, limit=self._page_rows)
        told = FlatPage(root, start, page.next_after, sent_at)
        for meta in page.objects:
            if all(is_file_name(name) for name in meta.key.under(root).split("/")[:-1]):
                self._admit_flat(told, meta)
        with self._lock:
            for here, span, rows in told.directories(asked):
                directory = self._directory(here)
                directory.merge(span, rows)
                self._overlay(directory)
        return page.next_after

    def _admit_flat(self, told: FlatPage, meta: ObjectMeta) -> None:
        rows: dict[str, Row] = {}
        if meta.key.name:
            self._admit(rows, meta.key.name, meta)
        told.add(meta.key.parent, rows)

    def _rows_of(self, prefix: Prefix, page: Page) -> dict[str, Row]:
        """Rows by position; keys that cannot be file names are counted and left out."""
        rows: dict[str, Row] = {}
        for child in page.prefixes:
            self._admit(rows, child[len(prefix) :], Prefix(child))
        for meta in page.objects:
            position = meta.key.under(prefix)
            if position:  # else: a `dir/` marker, which is the directory itself
                self._admit(rows, position, meta)
        return rows

    def _admit(self, rows: dict[str, Row], position: str, row: Row) -> None:
        if is_file_name(position.removesuffix("/")):
            rows[position] = row
            return
        key = row.key if isinstance(row, ObjectMeta) else row
        with self._lock:
            if key in self._hidden:
                return
            self._hidden.add(key)
        log.warning("key cannot be a file name and is hidden", key=key)

    def _overlay(self, directory: Directory) -> None:
        """Lays our own recent changes over what a page has told."""
        self._expire_own()
        for position, own in self._own.get(directory.prefix, {}).items():
            if own.row is None:
                directory.remove(position)
            else:
                directory.set(position, own.row)

    def _expire_own(self) -> None:
        """Forgets our changes of more than `ttl_s` ago: from now on a page is the truth."""
        now = self._clock()
        while self._own_order and self._own_order[0][2].until <= now:
            parent, position, own = self._own_order.popleft()
            changes = self._own.get(parent, {})
            if changes.get(position) is own:
                del changes[position]
                if not changes:
                    del self._own[parent]

    def _set(self, parent: Prefix, position: str, row: Row | None) -> None:
        """Takes a change of our own into the rows and remembers it for the pages to come."""
        self._expire_own()
        own = _Own(row, self._clock() + self._ttl_s)
        self._own.setdefault(parent, {})[position] = own
        self._own_order.append((parent, position, own))
        directory = self._directory(parent)
        if row is None:
            directory.remove(position)
        else:
            directory.set(position, row)

    def _note_lineage(self, prefix: Prefix) -> None:
        """The directories above a new object exist from now on."""
        for here in prefix.lineage():
            if not here.is_root:
                self._set(here.parent, f"{here.name}/", here)

    def _keep_virtual(self, prefix: Prefix) -> None:
        """A directory, and those above it, stay without objects until rmdir or unmount."""
        for here in prefix.lineage():
            if not here.is_root:
                self._virtual.setdefault(here.parent, set()).add(here.name)

    def _own_of(self, parent: Prefix, name: str) -> _Own | None:
        self._expire_own()
        changes = self._own.get(parent, {})
        return changes.get(f"{name}/") or changes.get(name)

    def _own_below(self, prefix: Prefix) -> tuple[dict[Key, ObjectMeta], set[Key]]:
        """The objects under `prefix` that we put, and those that we deleted, of late."""
        put: dict[Key, ObjectMeta] = {}
        deleted: set[Key] = set()
        with self._lock:
            self._expire_own()
            for parent, changes in self._own.items():
                if not parent.startswith(prefix):
                    continue
                for position, own in changes.items():
                    if isinstance(own.row, ObjectMeta):
                        put[own.row.key] = own.row
                    elif own.row is None:
                        deleted.add(Key(parent + position))
        return put, deleted

    def _directory(self, prefix: Prefix) -> Directory:
        directory = self._directories.get(prefix)
        if directory is None:
            directory = self._directories[prefix] = Directory(prefix)
            self._overlay(directory)  # one that was crowded out must not lose what we put there
        return directory

    def _since(self) -> float:
        """Pages asked for before this are no longer used."""
        return self._clock() - self._ttl_s / 2

    def _in_doubt(self, parent: Prefix, name: str) -> bool:
        """Whether absence needs a second question: it was there, or its directory is live.

        A directory made through this mount where nothing was is in no doubt: what is not ours
        is not there.
        """
        with self._lock:
            directory = self._directory(parent)
            if name in directory.vanished:
                return True
            if is_impossible(name, directory):
                return False
            live = directory.newest_ns > self._now_ns() - self._settle_ns
            return live and not directory.made_here

    def _confirm(self, key: Key) -> ObjectMeta | None:
        """Asks for one object by HEAD, unless we deleted it ourselves a moment ago."""
        with self._lock:
            own = self._own_of(key.parent, key.name)
        if own is not None and own.row is None:
            return None
        try:
            meta = self._source.head(key)
        except NotFound:
            with self._lock:
                self._directory(key.parent).vanished.discard(key.name)
            return None
        with self._lock:
            self._directory(key.parent).set(key.name, meta)
        return meta

    def _with_true_size(self, row: ObjectMeta) -> ObjectMeta:
        """The meta by HEAD: a listing says 0 of natively segmented objects (facts: DLO)."""
        with self._lock:
            known = self._sized.get((row.key, row.etag))
        if known is None:
            try:
                known = self._source.head(row.key)
            except NotFound:  # deleted since it was listed; open() will say so
                known = row
            with self._lock:
                self._sized[row.key, row.etag] = known
        return known
