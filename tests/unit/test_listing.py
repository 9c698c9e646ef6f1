"""The listing: what it answers, and with how many requests, over a bucket in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrfuse.core.keys import ROOT, Key, ObjectMeta, Prefix
from zarrfuse.listing.listing import Listing
from zarrfuse.store.base import Page
from zarrfuse.store.faults import FaultyStore
from zarrfuse.store.memory import MemoryStore

TTL_S = 60.0
SETTLE_S = 3600.0
OLD_S = 1_000_000.0


class World:
    """A bucket, a listing over it, a clock, and a count of requests."""

    def __init__(
        self,
        *,
        page_rows: int = 1000,
        now_s: float = OLD_S + 10 * SETTLE_S,
        max_keys: int = 100_000,
    ) -> None:
        self.max_keys = max_keys
        self.changes: list[str] = []
        self.now_s = OLD_S
        self.memory = MemoryStore(clock=lambda: self.now_s)
        self.store = FaultyStore(self.memory)
        self.page_rows = page_rows
        self.start_s = now_s

    def put(self, *keys: str) -> list[ObjectMeta]:
        return [self.memory.put(Key(key), key.encode()) for key in keys]

    def listing(self) -> Listing:
        """Begins to look, long after what was put before."""
        self.now_s = max(self.now_s, self.start_s)
        return Listing(
            self.store,
            ttl_s=TTL_S,
            settle_s=SETTLE_S,
            page_rows=self.page_rows,
            max_keys=self.max_keys,
            changed=lambda parent, name: self.changes.append(f"{parent}{name}"),
            clock=lambda: self.now_s,
            now_ns=lambda: int(self.now_s * 1e9),
        )

    def asked(self) -> list[str]:
        """The verbs since the last question."""
        verbs = [call.verb for call in self.store.calls]
        self.store.calls.clear()
        return verbs


@pytest.fixture
def world() -> World:
    return World()


def test_one_page_answers_all_of_a_directory(world: World) -> None:
    world.put("a/.zarray", "a/0.0", "a/0.1", "a/b/c", "z")
    listing = world.listing()
    assert isinstance(listing.lookup(Prefix("a/"), ".zarray"), ObjectMeta)
    assert listing.lookup(Prefix("a/"), "b") == Prefix("a/b/")
    assert listing.lookup(Prefix("a/"), "0.2") is None
    assert [name for name, _ in listing.children(Prefix("a/"))] == [
        ".zarray",
        "0.0",
        "0.1",
        "b",
    ]
    assert world.asked() == ["list_page"]


def test_a_look_up_in_a_large_directory_does_not_list_it() -> None:
    world = World(page_rows=10)
    world.put(*(f"a/{n:05}" for n in range(1000)))
    listing = world.listing()
    assert isinstance(listing.lookup(Prefix("a/"), "00500"), ObjectMeta)
    assert world.asked() == ["list_page"]
    assert isinstance(listing.lookup(Prefix("a/"), "00505"), ObjectMeta)
    assert listing.lookup(Prefix("a/"), "00500x") is None
    assert world.asked() == []


def test_a_directory_is_found_however_many_names_lie_between() -> None:
    world = World(page_rows=10)
    world.put("d/x", *(f"d-{n:03}" for n in range(50)))
    assert world.listing().lookup(ROOT, "d") == Prefix("d/")
    assert world.asked() == ["list_page", "list_page"]


def test_a_directory_hides_an_object_of_its_name_and_says_so(world: World) -> None:
    world.put("foo", "foo/bar")
    listing = world.listing()
    assert listing.lookup(ROOT, "foo") == Prefix("foo/")
    assert listing.children(ROOT) == [("foo", Prefix("foo/"))]
    assert listing.snapshot()["shadowed_objects"] == 1


def test_keys_that_are_no_file_names_are_hidden_and_counted(world: World) -> None:
    world.put("a//b", "a/./c", "a/../d", "a/ok", "a/", "a/" + "n" * 256)
    listing = world.listing()
    assert [name for name, _ in listing.children(Prefix("a/"))] == ["ok"]
    assert listing.snapshot()["hidden_keys"] == 4


def test_absence_in_a_settled_directory_costs_nothing_more(world: World) -> None:
    world.put("a/0")
    listing = world.listing()
    assert listing.lookup(Prefix("a/"), "1") is None
    assert listing.lookup(Prefix("a/"), "2") is None
    # The page from "1" on is empty: the one from the beginning tells that all is old.
    assert world.asked() == ["list_page", "list_page"]


def test_absence_in_a_live_directory_is_confirmed_each_time(world: World) -> None:
    listing = world.listing()
    world.put("a/0")
    listing.children(Prefix("a/"))
    world.asked()
    assert listing.lookup(Prefix("a/"), "1") is None
    assert listing.lookup(Prefix("a/"), "1") is None
    assert world.asked() == ["head", "head"]
    world.put("a/1")  # another client, and the page of a moment ago does not have it
    assert isinstance(listing.lookup(Prefix("a/"), "1"), ObjectMeta)


def test_creating_in_a_directory_made_here_costs_no_request(world: World) -> None:
    listing = world.listing()
    assert listing.lookup(ROOT, "new") is None
    world.asked()
    listing.note_mkdir(Prefix("new/"))
    for n in range(5):
        assert listing.lookup(Prefix("new/"), f"{n}") is None
        listing.note_put(world.put(f"new/{n}")[0])
    assert world.asked() == []
    assert listing.children(ROOT) == [("new", Prefix("new/"))]


def test_own_changes_are_seen_at_once_in_all_directories_above(world: World) -> None:
    world.put("x/old")
    listing = world.listing()
    listing.children(ROOT)
    listing.note_put(world.put("a/b/c")[0])
    assert listing.lookup(ROOT, "a") == Prefix("a/")
    assert listing.lookup(Prefix("a/"), "b") == Prefix("a/b/")
    assert isinstance(listing.lookup(Prefix("a/b/"), "c"), ObjectMeta)
    world.memory.delete(Key("x/old"))
    listing.note_deleted(Key("x/old"))
    assert listing.lookup(Prefix("x/"), "old") is None
    assert listing.is_directory(Prefix("x/")), "an emptied directory stays until rmdir"
    listing.note_rmdir(Prefix("x/"))
    assert not listing.is_directory(Prefix("x/"))


class _Lagging(FaultyStore):
    """Lists what stood there before; HEAD tells the truth, as Swift does."""

    def freeze(self, page: Page) -> None:
        self._page = page

    def list_page(self, prefix: str, **asked: object) -> Page:
        return self._page


def test_a_listing_that_lags_behind_shows_no_ghost_and_hides_nothing_of_ours(world: World) -> None:
    world.put("gone")
    lagging = _Lagging(world.memory)
    lagging.freeze(world.memory.list_page("", delimiter=True))
    world.store = lagging
    listing = world.listing()
    assert listing.lookup(ROOT, "gone") is not None
    world.memory.delete(Key("gone"))
    listing.note_deleted(Key("gone"))
    listing.note_put(world.put("new")[0])
    world.now_s += TTL_S * 0.6  # the pages are too old, our own changes are not
    assert [name for name, _ in listing.children(ROOT)] == ["new"]
    world.now_s += TTL_S  # now the page is believed; what vanished by it is asked for
    assert isinstance(listing.lookup(ROOT, "new"), ObjectMeta)


def test_a_change_of_another_client_is_seen_within_the_ttl(world: World) -> None:
    world.put("a", "b")
    listing = world.listing()
    listing.children(ROOT)
    world.memory.delete(Key("a"))
    changed = world.memory.put(Key("b"), b"other bytes")
    world.put("c")
    world.now_s += TTL_S / 2 + 1
    assert listing.lookup(ROOT, "a") is None
    assert listing.lookup(ROOT, "b") == changed
    assert [name for name, _ in listing.children(ROOT)] == ["b", "c"]


def test_a_size_of_zero_is_asked_for_once(world: World) -> None:
    (meta,) = world.put("dlo")
    true_size = replace(meta, size=12345)

    class Dlo(FaultyStore):
        def list_page(self, prefix: str, **asked: object) -> Page:
            return Page((replace(meta, size=0),), (), None)

        def head(self, key: Key) -> ObjectMeta:
            super().head(key)
            return true_size

    world.store = Dlo(world.memory)
    listing = world.listing()
    assert listing.lookup(ROOT, "dlo") == true_size
    assert listing.lookup(ROOT, "dlo") == true_size
    assert world.asked() == ["head"]


NAMES = st.sampled_from(["a", "b", "a/x", "a/y", "a/x/1", "a-b", "a0", "b/z"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "remote_put", "remote_delete", "wait"]), NAMES),
    max_size=15,
)


@settings(max_examples=150)
@given(STEPS, st.integers(1, 5), st.sampled_from([None, "", "a/"]))
def test_after_the_ttl_the_listing_is_the_bucket(
    steps: list[tuple[str, str]], page_rows: int, flat: str | None
) -> None:
    """Whatever was done here and elsewhere, whatever was looked at in between, flat or not."""
    world = World(page_rows=page_rows)
    listing = world.listing()
    if flat is not None:
        listing.flatten(Prefix(flat), objects=3)
    kept: set[Prefix] = set()  # directories that were emptied here stay, and hide what they hid
    for action, name in steps:
        key = Key(name)
        listing.lookup(key.parent, key.name)
        match action:
            case "put":
                listing.note_put(world.put(name)[0])
                assert listing.lookup(key.parent, key.name) is not None
            case "delete" if isinstance(listing.lookup(key.parent, key.name), ObjectMeta):
                world.memory.delete(key)
                listing.note_deleted(key)
                kept.update(key.parent.lineage())
                assert not isinstance(listing.lookup(key.parent, key.name), ObjectMeta)
            case "remote_put":
                world.put(name)
            case "remote_delete":
                world.memory.delete(key)
            case "wait":
                world.now_s += TTL_S / 3
    world.now_s += 2 * TTL_S
    for prefix in (ROOT, Prefix("a/"), Prefix("a/x/"), Prefix("b/")):
        page = world.memory.list_page(prefix, delimiter=True)
        directories = {p.name for p in {*page.prefixes, *kept} if p and p.parent == prefix}
        files = {m.key.under(prefix): m for m in page.objects if m.key.name not in directories}
        found = {n: row for n, row in listing.children(prefix) if isinstance(row, ObjectMeta)}
        assert found == files
        for name, meta in files.items():
            assert listing.lookup(prefix, name) == meta
        for name in directories:
            assert listing.lookup(prefix, name) == prefix.directory(name)


def test_one_flat_page_answers_for_all_directories_of_an_array(world: World) -> None:
    world.put("a/zarr.json", *(f"a/c/{t}/{y}/0" for t in range(20) for y in range(20)))
    listing = world.listing()
    listing.flatten(Prefix("a/"), objects=400)
    assert listing.lookup(Prefix("a/"), "c") == Prefix("a/c/")
    world.asked()
    for t in range(20):
        assert listing.lookup(Prefix("a/c/"), f"{t}") == Prefix(f"a/c/{t}/")
        for y in range(20):
            assert isinstance(listing.lookup(Prefix(f"a/c/{t}/{y}/"), "0"), ObjectMeta)
        assert [name for name, _ in listing.children(Prefix(f"a/c/{t}/"))] == sorted(
            f"{y}" for y in range(20)
        )
    assert listing.lookup(Prefix("a/c/"), "20") is None
    assert world.asked() == []


def test_a_look_up_in_a_large_array_asks_for_one_page_from_there_on() -> None:
    world = World(page_rows=10)
    world.put("a/zarr.json", *(f"a/c/{t:03}/{y}" for t in range(200) for y in range(3)))
    listing = world.listing()
    listing.flatten(Prefix("a/"), objects=600)
    assert listing.lookup(Prefix("a/c/"), "100") == Prefix("a/c/100/")
    assert isinstance(listing.lookup(Prefix("a/c/100/"), "2"), ObjectMeta)
    assert isinstance(listing.lookup(Prefix("a/c/101/"), "0"), ObjectMeta)
    assert world.asked() == ["list_page"]
    assert [name for name, _ in listing.children(Prefix("a/"))] == ["c", "zarr.json"]


def test_probes_of_the_other_zarr_version_are_answered_without_a_request(world: World) -> None:
    listing = world.listing()
    world.put("v2/.zgroup", "v3/zarr.json", "plain/file")
    for prefix in ("v2/", "v3/", "plain/"):
        listing.children(Prefix(prefix))
    world.asked()
    assert listing.lookup(Prefix("v2/"), "zarr.json") is None
    assert listing.lookup(Prefix("v3/"), ".zmetadata") is None
    assert listing.lookup(Prefix("v3/"), "zarr.json.aux.xml") is None
    assert world.asked() == []
    assert listing.lookup(Prefix("v2/"), ".zmetadata") is None
    assert listing.lookup(Prefix("plain/"), "zarr.json") is None
    assert world.asked() == ["head", "head"]


def test_a_directory_made_here_is_doubted_once_others_write_in_it(world: World) -> None:
    listing = world.listing()
    listing.note_mkdir(Prefix("new/"))
    listing.note_put(world.put("new/mine")[0])
    world.put("new/theirs")
    world.now_s += TTL_S
    world.asked()
    assert listing.lookup(Prefix("new/"), "other") is None
    assert world.asked() == ["list_page", "head"]
