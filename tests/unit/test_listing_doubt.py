"""Absence and old versions: what a listing that is old, lags, or was forgotten may not say."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.unit.test_listing import SETTLE_S, TTL_S, World
from zarrfuse.core.keys import ROOT, ETag, Key, ObjectMeta, Prefix
from zarrfuse.core.zarr.metadata import MAX_ARRAYS
from zarrfuse.errors import Offline, Unavailable
from zarrfuse.listing.listing import Listing
from zarrfuse.listing.memory import Area
from zarrfuse.store.base import Page
from zarrfuse.store.faults import FaultyStore

V = Prefix("s/v/")


class Bucket(FaultyStore):
    """`hidden` keys are not listed yet; while `down`, nobody answers."""

    hidden: frozenset[str] = frozenset()
    stale: tuple[ObjectMeta, ...] = ()
    down = False
    most = 1000

    def list_page(
        self, prefix: str, *, after: str = "", delimiter: bool = False, limit: int = 1000
    ) -> Page:
        if self.down or len(self.calls) > self.most:
            raise Offline("down")
        page = super().list_page(prefix, after=after, delimiter=delimiter, limit=limit)
        old = {meta.key: meta for meta in self.stale}
        rows = (old.get(row.key, row) for row in page.objects if row.key not in self.hidden)
        return Page(tuple(rows), page.prefixes, page.next_after)

    def head(self, key: Key) -> ObjectMeta:
        if self.down:
            raise Offline("down")
        return super().head(key)


def world_of(bucket: type[Bucket] = Bucket, **options: int) -> tuple[World, Bucket]:
    world = World(**options)
    store = bucket(world.memory)
    world.store = store
    return world, store


# An outage ---------------------------------------------------------------------------------


@pytest.mark.parametrize("age_s", [TTL_S, 10 * TTL_S, SETTLE_S + TTL_S])
def test_in_an_outage_an_absence_known_once_is_an_error(age_s: float) -> None:
    world, store = world_of()
    world.put("s/v/.zarray", "s/v/0")
    listing = world.listing()
    assert listing.lookup(V, "1") is None
    world.put("s/v/1")
    store.down = True
    world.now_s += age_s
    with pytest.raises(Unavailable):
        listing.lookup(V, "1")
    with pytest.raises(Unavailable):
        listing.listed(V, "1")
    assert listing.lookup(V, "zarr.json") is None, "which is in no store of the other kind"
    assert isinstance(listing.lookup(V, "0"), ObjectMeta)


def test_in_an_outage_what_we_deleted_of_late_is_absent() -> None:
    world, store = world_of()
    world.put("s/v/0", "s/v/1")
    listing = world.listing()
    listing.children(V)
    world.now_s += TTL_S * 0.6
    world.memory.delete(Key("s/v/0"))
    listing.note_deleted(Key("s/v/0"))
    store.down = True
    assert listing.lookup(V, "0") is None


def test_in_an_outage_a_writer_is_given_nothing_known_once() -> None:
    world, store = world_of()
    world.put("s/v/0")
    listing = world.listing()
    listing.children(V)
    world.now_s += TTL_S
    store.down = True
    assert listing.lookup(V, "0") is not None
    for ask in (listing.lookup, listing.listed):
        with pytest.raises(Unavailable):
            ask(V, "0", stale_ok=False)


def test_in_an_outage_a_size_known_once_is_an_answer() -> None:
    world, store = world_of()
    world.memory.put(Key("empty"), b"")
    listing = world.listing()
    assert listing.lookup(ROOT, "empty") is not None
    world.now_s += 2 * TTL_S
    store.down = True
    assert listing.lookup(ROOT, "empty") is not None
    with pytest.raises(Unavailable):
        listing.lookup(ROOT, "empty", stale_ok=False)


# Whether a store is live -------------------------------------------------------------------


def test_how_old_a_store_is_is_not_told_by_old_pages() -> None:
    world, store = world_of(page_rows=10)
    world.put(*(f"s/v/{n:03}" for n in range(30)))
    listing = world.listing()
    assert listing.lookup(V, "000") is not None, "the first page, and all of it is old"
    world.now_s += 10 * TTL_S
    world.put("s/v/000", "s/v/900")
    store.hidden = frozenset({"s/v/900"})
    assert listing.lookup(V, "900") is not None


@pytest.mark.parametrize("flat", [False, True])
def test_a_store_made_here_is_doubted_once_others_write_in_it_however_it_is_listed(
    *, flat: bool
) -> None:
    world, store = world_of()
    listing = world.listing()
    listing.note_mkdir(V)
    for name in (".zarray", "0.0"):
        listing.note_put(world.put(f"{V}{name}")[0])
    if flat:
        listing.flatten(V, objects=10_000)
    world.now_s += 2 * TTL_S
    assert listing.lookup(V, "0.0") is not None
    world.asked()
    assert listing.lookup(V, "0.2") is None
    assert world.asked() == [], "all of it is ours"
    world.put("s/v/0.1")
    world.now_s += 2 * TTL_S
    assert listing.lookup(V, "0.1") is not None
    world.put("s/v/0.2")
    store.hidden = frozenset({"s/v/0.2"})
    assert listing.lookup(V, "0.2") is not None


# The clock ---------------------------------------------------------------------------------


def test_time_goes_on_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    world, store = world_of()
    world.put("s/v/0")
    slept_s = 0.0
    real = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda which: real(which) + slept_s)
    listing = Listing(store, ttl_s=3600, settle_s=0, page_rows=1000, max_keys=1000)
    listing.children(V)
    world.memory.put(Key("s/v/0"), b"other bytes")
    slept_s = 8 * 3600.0
    row = listing.lookup(V, "0")
    assert isinstance(row, ObjectMeta) and row.size == len(b"other bytes")


# What is forgotten -------------------------------------------------------------------------


def test_while_a_directory_too_large_is_collected_other_names_cost_one_page() -> None:
    world, store = world_of(max_keys=1000)
    world.put(*(f"a/{n:06}" for n in range(2000)), "b/x", "b/y")
    store.most = 50
    listing = world.listing()
    with listing._known.pinned((Area(Prefix("a/"), flat=False),)):
        while listing._known.entries(Prefix("a/"), world.now_s) is None:
            listing._asking.for_all(Prefix("a/"), world.now_s)
        world.asked()
        assert listing.lookup(Prefix("b/"), "x") is not None
        assert listing.lookup(Prefix("b/"), "y") is not None
        assert world.asked() == ["list_page"]


def test_a_page_as_large_as_the_memory_answers() -> None:
    world, store = world_of(max_keys=1000, page_rows=1000)
    world.put(*(f"b/{n:06}" for n in range(990)))
    store.most = 50
    listing = world.listing()
    assert listing.lookup(Prefix("b/"), "000001") is not None
    assert listing.lookup(Prefix("b/"), "000002") is not None
    assert world.asked() == ["list_page"]


class _Crowding(Bucket):
    """Before the first page comes, so many other arrays become known that the first is dropped."""

    listing: Listing
    is_first = True

    def list_page(
        self, prefix: str, *, after: str = "", delimiter: bool = False, limit: int = 1000
    ) -> Page:
        if self.is_first:
            self.is_first = False
            for n in range(MAX_ARRAYS):
                self.listing.flatten(Prefix(f"other/{n}/"), objects=100)
        return super().list_page(prefix, after=after, delimiter=delimiter, limit=limit)


def test_an_array_that_is_forgotten_while_it_is_asked_for_is_asked_for_otherwise() -> None:
    world, store = world_of(_Crowding)
    world.put("s/v/0/0", "s/v/0/1")
    listing = world.listing()
    assert isinstance(store, _Crowding)
    store.listing = listing
    listing.flatten(V, objects=100)
    questions = itertools.count()
    missing = listing._known.missing

    def counted(area: Area, parent: Prefix, name: str, asked_at: float) -> str | None:
        assert next(questions) < 100, "it never ends, and without any request"
        return missing(area, parent, name, asked_at)

    listing._known.missing = counted  # type: ignore[method-assign]
    assert listing.lookup(V.directory("0"), "1") is not None


def test_as_many_arrays_stay_as_a_store_may_have() -> None:
    world, _ = world_of()
    listing = world.listing()
    for n in range(MAX_ARRAYS):
        listing.flatten(Prefix(f"{n}/"), objects=100)
    assert listing._known.root_of(Prefix("0/")) is not None


def test_what_is_forgotten_at_once_is_an_error_and_no_endless_listing() -> None:
    world, store = world_of()
    world.put("b/x")
    store.most = 100
    listing = world.listing()
    listing._known.take = lambda area, told: None  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="forgotten"):
        listing.lookup(Prefix("b/"), "x")


def test_questions_that_fail_leave_nothing_behind() -> None:
    world, store = world_of()
    listing = world.listing()
    store.down = True
    for n in range(20):
        listing.flatten(Prefix(f"a{n}/"), objects=10_000)
        for parent in (Prefix(f"a{n}/c/"), Prefix(f"b{n}/")):
            with pytest.raises(Unavailable):
                listing.lookup(parent, "0")
            with pytest.raises(Unavailable):
                listing.children(parent)
    assert listing.snapshot()["directories"] == 0


# Old versions ------------------------------------------------------------------------------


@pytest.mark.parametrize("deleted", [False, True])
def test_what_head_says_of_a_version_that_is_gone_is_believed_over_pages(*, deleted: bool) -> None:
    world, store = world_of()
    store.stale = tuple(world.put("s/v/0"))
    listing = world.listing()
    assert listing.lookup(V, "0") == store.stale[0]
    new = None if deleted else world.memory.put(Key("s/v/0"), b"other bytes")
    if deleted:
        store.list_page = lambda *_, **__: Page(store.stale, (), None)  # type: ignore[method-assign]
        world.memory.delete(Key("s/v/0"))
    listing.correct(Key("s/v/0"))
    assert world.changes == ["s/v/0"], "the kernel is told"
    for _ in range(3):
        assert listing.lookup(V, "0") == new
        assert [row for _, row in listing.children(V)] == ([] if deleted else [new])
        world.now_s += TTL_S * 0.3


def test_where_head_fails_the_next_asks_anew() -> None:
    world, store = world_of()
    world.put("s/v/0")
    listing = world.listing()
    listing.children(V)
    new = world.memory.put(Key("s/v/0"), b"other bytes")
    store.down = True
    listing.correct(Key("s/v/0"))
    store.down = False
    assert listing.lookup(V, "0") == new


class _Segmented(Bucket):
    """Lists a size of 0 under one ETag, whatever the segments hold."""

    size = 10

    def list_page(self, prefix: str, **asked: object) -> Page:
        (row,) = super().list_page(prefix, **asked).objects  # type: ignore[arg-type]
        return Page((ObjectMeta(row.key, 0, row.etag, row.modified_ns),), (), None)

    def head(self, key: Key) -> ObjectMeta:
        row = super().head(key)
        return ObjectMeta(key, self.size, ETag(f"of-{self.size}"), row.modified_ns)


@pytest.mark.parametrize("after_s", [0.0, TTL_S])
def test_a_segmented_object_that_grew_is_seen(after_s: float) -> None:
    """After the ttl; at once, if a read has found that it is not as it was."""
    world, store = world_of(_Segmented)
    world.put("dlo")
    listing = world.listing()
    before = listing.lookup(ROOT, "dlo")
    assert isinstance(before, ObjectMeta) and before.size == 10
    assert isinstance(store, _Segmented)
    store.size = 20
    world.now_s += after_s
    if not after_s:
        listing.forget(Key("dlo"))
    row = listing.lookup(ROOT, "dlo")
    assert isinstance(row, ObjectMeta) and (row.size, row.etag) == (20, "of-20")
