"""Listings that would never end, and what is remembered of directories that were crowded out."""

from __future__ import annotations

import pytest

from zarrfuse.core.keys import ROOT, Key, ObjectMeta, Prefix
from zarrfuse.listing.listing import Listing
from zarrfuse.listing.positions import just_before
from zarrfuse.store.base import Page
from zarrfuse.store.faults import FaultyStore
from zarrfuse.store.memory import MemoryStore


class Slow(FaultyStore):
    """Each page takes a while, by the clock that the listing has."""

    now_s = 0.0

    def list_page(self, prefix: str, **asked: object) -> Page:
        assert len(self.calls) < 100, "it never ends"
        self.now_s += 10.0
        return super().list_page(prefix, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("ttl_s", [0.0, 30.0, 60.0])
def test_a_directory_that_takes_longer_than_the_ttl_is_listed_once(ttl_s: float) -> None:
    store = Slow(MemoryStore())
    for n in range(50):
        store.put(Key(f"a/{n:03}"), b"x")
    store.calls.clear()
    listing = Listing(
        store,
        ttl_s=ttl_s,
        settle_s=0,
        page_rows=5,
        max_keys=100_000,
        clock=lambda: store.now_s,
        now_ns=lambda: 0,
    )
    assert len(listing.children(Prefix("a/"))) == 50
    assert len(store.calls) <= 20, "ten pages, and a few for guesses where to cut"


def test_a_directory_that_was_crowded_out_keeps_what_we_put() -> None:
    store = MemoryStore()
    listing = Listing(store, ttl_s=60, settle_s=0, page_rows=1000, max_keys=100)
    keys = [Key(f"v/{n}/0") for n in range(20)]
    for key in keys:
        listing.note_put(store.put(key, b"x"))
    for key in keys:
        assert isinstance(listing.lookup(key.parent, key.name), ObjectMeta)
        assert listing.remembered(key.parent, key.name) is not None


def test_forgetting_one_object_forgets_no_change_beside_it() -> None:
    store = MemoryStore()
    lagging = store.list_page("", delimiter=True)
    faulty = FaultyStore(store)
    faulty.list_page = lambda *_, **__: lagging  # type: ignore[method-assign]
    listing = Listing(faulty, ttl_s=60, settle_s=0, page_rows=1000, max_keys=100_000)
    for name in ("kept", "replaced"):
        listing.note_put(store.put(Key(name), b"x"))
    listing.forget(Key("replaced"))
    assert [name for name, _ in listing.children(ROOT)] == ["kept"]


def test_no_request_ever_holds_a_nul() -> None:
    for name in ("\x01", "a\x01", "\x01b", "a"):
        before = just_before(name)
        assert "\0" not in before and before < name
