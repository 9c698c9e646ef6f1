"""A bucket tree over any store, built as daemon.py builds it, with short times and no cache."""

from __future__ import annotations

from pathlib import Path

from zarrfuse.core.keys import Key, ObjectMeta
from zarrfuse.errors import ZarrfuseError
from zarrfuse.listing.listing import Listing
from zarrfuse.spool.files import Spool
from zarrfuse.spool.publisher import Publisher
from zarrfuse.spool.written import WrittenFiles
from zarrfuse.spool.written_file import Rules
from zarrfuse.store.base import Store
from zarrfuse.tree.bucket import BucketTree, Parts, Times


class StoreReader:
    """Every read is a GET of that version."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, meta: ObjectMeta, start: int, stop: int) -> bytes:
        return self._store.get(meta.key, start=start, stop=stop, if_match=meta.etag).data


class TestedTree(BucketTree):
    """With what a test looks at: the spool, and the failures that nobody could be told."""

    __test__ = False

    def __init__(self, parts: Parts, spool: Spool, failures: list[tuple[Key, str]]) -> None:
        super().__init__(parts)
        self.parts = parts
        self.spool = spool
        self.failures = failures


def bucket_tree(
    store: Store,
    directory: Path,
    *,
    ttl_s: float = 60.0,
    settle_s: float = 0.05,
    rename_max_objects: int = 100,
) -> TestedTree:
    """`ttl_s` 0: every question is asked of the bucket."""
    listing = Listing(store, ttl_s=ttl_s, settle_s=0.0, page_rows=1000, max_keys=100_000)
    spool = Spool(directory / "spool", keep_free_fraction=0, keep_free_bytes=0)
    times = Times()
    failures: list[tuple[Key, str]] = []

    def failed(key: Key, error: ZarrfuseError) -> None:
        failures.append((key, str(error)))

    reader = StoreReader(store)
    rules = Rules(
        spool=spool,
        publish=Publisher(store, listing.note_put, keep=lambda meta, data: None).publish,
        read_base=reader.read,
        failed=failed,
        settle_s=settle_s,
    )
    parts = Parts(
        listing=listing,
        reader=reader,
        written=WrittenFiles(rules, times.give),
        changes=store,
        times=times,
        rename_max_objects=rename_max_objects,
    )
    return TestedTree(parts, spool, failures)
