"""A page of a listing as rows by position, without the keys that cannot be file names."""

from __future__ import annotations

import threading
from operator import itemgetter

import structlog

from zarrfuse.core.keys import Key, Prefix, is_file_name
from zarrfuse.listing.memory import Area
from zarrfuse.listing.rows import Row
from zarrfuse.listing.space import Told
from zarrfuse.store.base import ListPages, Page

log = structlog.get_logger(__name__)

#: Hidden keys that are logged and counted; a bucket may be full of them.
_MAX_HIDDEN = 10_000


class Pages:
    """Thread-safe; `_lock` is a leaf."""

    def __init__(self, source: ListPages, page_rows: int) -> None:
        self.page_rows = page_rows
        self._source = source
        self._lock = threading.Lock()
        self._hidden: set[str] = set()

    @property
    def hidden(self) -> int:
        """How many keys were seen that are not shown."""
        with self._lock:
            return len(self._hidden)

    def ask(self, area: Area, after: str, at: float) -> Told:
        """The page of what follows `after` in that area; one request."""
        prefix = area.prefix
        page = self._source.list_page(
            prefix,
            after=f"{prefix}{after}" if after or area.flat else "",
            delimiter=not area.flat,
            limit=self.page_rows,
        )
        rows = self._all_levels(prefix, page) if area.flat else self._one_level(prefix, page)
        last = None if page.next_after is None else page.next_after[len(prefix) :]
        return Told(after, last, at, rows)

    def _one_level(self, prefix: Prefix, page: Page) -> list[tuple[str, Row]]:
        skip = len(prefix)
        rows: list[tuple[str, Row]] = [
            (child[skip:], Prefix(child)) for child in page.prefixes if self._shown(prefix, child)
        ]
        rows += [
            # Without a name it is a `dir/` marker, which is the directory itself.
            (meta.key[skip:], meta)
            for meta in page.objects
            if len(meta.key) > skip and self._shown(prefix, meta.key)
        ]
        return sorted(rows, key=itemgetter(0))

    def _all_levels(self, prefix: Prefix, page: Page) -> list[tuple[str, Row]]:
        skip = len(prefix)
        rows: list[tuple[str, Row]] = []
        good = ""  # the directory of the row before: rows of one directory follow each other
        for meta in page.objects:
            head, _, name = meta.key[skip:].rpartition("/")
            directory = f"{head}/" if head or meta.key[skip:].startswith("/") else ""
            if directory != good:
                if not self._shown_below(prefix, directory):
                    continue
                good = directory
            if not name and directory:
                rows.append((directory, Prefix(meta.key)))
            elif name and self._shown(prefix, meta.key):
                rows.append((meta.key[skip:], meta))
        return rows

    def _shown_below(self, prefix: Prefix, directory: str) -> bool:
        here = prefix
        for name in directory.split("/")[:-1]:
            here = here.directory(name)
            if not self._shown(prefix, here):
                return False
        return True

    def _shown(self, prefix: Prefix, key: Key | Prefix) -> bool:
        """Whether its last component can be the name of a file; logged once if not."""
        if is_file_name(key.name):
            return True
        with self._lock:
            if key in self._hidden or len(self._hidden) >= _MAX_HIDDEN:
                return False
            self._hidden.add(str(key))
        log.warning("key cannot be a file name and is hidden", key=key)
        return False
