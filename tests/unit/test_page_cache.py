"""Which pages the kernel may keep: checked against a model of its page cache, and in the mount's
operations on a tree that changes."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.trees import bucket_tree
from zarrfuse.core.keys import Key
from zarrfuse.errors import Unavailable, VersionChanged
from zarrfuse.mount.operations import Operations, Ownership, Told
from zarrfuse.mount.page_cache import PageCache
from zarrfuse.store.faults import Fault, FaultyStore
from zarrfuse.store.memory import MemoryStore

PATH = "/f"
#: What the operations told the kernel's notifier.
CHANGED: list[Key] = []
KEPT_S = 30.0


def test_pages_are_kept_for_the_version_that_filled_them() -> None:
    pages = PageCache(KEPT_S)
    first = pages.opened(PATH, "v1")
    pages.closed(PATH, "v1")
    again = pages.opened(PATH, "v1")
    pages.closed(PATH, "v1")
    other = pages.opened(PATH, "v2")
    assert (first.keep, again.keep, other.keep) == (False, True, False)
    assert not (first.direct or again.direct or other.direct)


def test_beside_another_version_a_handle_goes_past_the_pages() -> None:
    pages = PageCache(KEPT_S)
    pages.opened(PATH, "v1")
    assert pages.opened(PATH, "v2").direct
    pages.closed(PATH, "v2")
    assert pages.opened(PATH, "v1").keep, "the pages are still those of v1"


def test_bytes_without_a_version_are_never_kept() -> None:
    pages = PageCache(KEPT_S)
    for _ in range(2):
        assert not pages.opened(PATH, "").keep
        pages.closed(PATH, "")


def test_pages_that_were_written_are_no_versions() -> None:
    pages = PageCache(KEPT_S)
    pages.opened(PATH, "v1")
    pages.changed(PATH)
    pages.closed(PATH, "v1")
    assert not pages.opened(PATH, "v1").keep


def test_what_the_kernel_was_told_is_remembered_until_the_name_is_anothers() -> None:
    pages = PageCache(KEPT_S)
    assert not pages.told_otherwise(PATH, 5, "v2")
    pages.tell(PATH, 4, "v1")
    assert pages.told_otherwise(PATH, 5, "v2") and not pages.told_otherwise(PATH, 4, "v1")
    pages.forget(PATH)
    assert not pages.told_otherwise(PATH, 5, "v2")


STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "close", "read", "forget"]), st.integers(0, 3)), max_size=40
)


@settings(max_examples=300)
@given(STEPS)
def test_no_handle_ever_reads_another_versions_pages(steps: list[tuple[str, int]]) -> None:
    """The kernel: open without keep drops the file's pages, a read fills or uses them."""
    pages = PageCache(KEPT_S)
    filled: str | None = None
    handles: list[tuple[str, bool]] = []
    for action, number in steps:
        if action == "open":
            version = f"v{number}"
            caching = pages.opened(PATH, version)
            if not caching.direct and not caching.keep:
                filled = None
            handles.append((version, caching.direct))
        elif action == "close" and handles:
            version, _ = handles.pop(number % len(handles))
            pages.closed(PATH, version)
        elif action == "read" and handles:
            version, direct = handles[number % len(handles)]
            if not direct:
                filled = filled or version
                assert filled == version
        elif action == "forget" and not handles:
            pages.forget(PATH)
    for version, _ in handles:
        pages.closed(PATH, version)
    assert pages._open == {}


# In the operations -------------------------------------------------------------------------


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


@pytest.fixture
def operations(store: FaultyStore, tmp_path: Path) -> Operations:
    tree = bucket_tree(store, tmp_path, ttl_s=0.0)
    owner = Ownership(uid=1, gid=1, umask=0o022, shared=False, read_only=False)
    told = Told(ready=list, destroyed=list, changed=CHANGED.append)
    CHANGED.clear()
    return Operations(tree, owner, caller=lambda: 0, kept_s=KEPT_S, told=told)


def opened(operations: Operations, flags: int, path: str = PATH) -> SimpleNamespace:
    info = SimpleNamespace(flags=flags, fh=0, keep_cache=-1, direct_io=-1)
    operations.open(path, info)
    return info


def test_bytes_that_the_bucket_refused_are_not_left_in_the_pages(
    operations: Operations, store: FaultyStore
) -> None:
    store.put(Key("f"), b"old")
    store.plan = [Fault(2, Unavailable("down"), "put")]
    writer = opened(operations, os.O_RDWR)
    operations.write(PATH, b"NEW", 0, writer)
    with pytest.raises(Unavailable):
        operations.flush(PATH, writer)
    operations.release(PATH, writer)
    reader = opened(operations, os.O_RDONLY)
    assert operations.read(PATH, 10, 0, reader) == b"old"
    assert not reader.keep_cache, "the kernel's pages hold what was refused"


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND])
def test_open_makes_the_kernel_look_again_after_a_change(
    operations: Operations, store: FaultyStore, flags: int
) -> None:
    """Else it would cut a read at the old size, and append in the middle."""
    store.put(Key("f"), b"short")
    assert operations.getattr(PATH).size == 5
    store.put(Key("f"), b"much longer")
    with pytest.raises(VersionChanged):
        opened(operations, flags)
    assert operations.getattr(PATH).size == 11
    opened(operations, flags)


def test_names_alone_tell_the_kernel_no_sizes(operations: Operations, store: FaultyStore) -> None:
    store.put(Key("f"), b"short")
    operations.getattr(PATH)
    store.put(Key("f"), b"much longer")
    assert "f" in [name for name, _ in operations.entry_stats("/", 1, 0, told=False)]
    with pytest.raises(VersionChanged):
        opened(operations, os.O_RDONLY)


def test_a_listing_with_sizes_tells_them(operations: Operations, store: FaultyStore) -> None:
    store.put(Key("f"), b"short")
    operations.getattr(PATH)
    store.put(Key("f"), b"much longer")
    rows = dict(operations.entry_stats("/", 1, 0, told=True))
    assert rows["f"].size == 11
    opened(operations, os.O_RDONLY)


def test_an_entry_that_had_no_room_is_not_told(operations: Operations, store: FaultyStore) -> None:
    store.put(Key("f"), b"short")
    operations.getattr(PATH)
    store.put(Key("f"), b"much longer")
    for name, _ in operations.entry_stats("/", 1, 0, told=True):
        if name == "f":
            break
    with pytest.raises(VersionChanged):
        opened(operations, os.O_RDONLY)


def test_touch_means_now_and_omit_means_nothing(operations: Operations, store: FaultyStore) -> None:
    """libfuse 3 passes UTIME_NOW and UTIME_OMIT on in the place of nanoseconds."""
    store.put(Key("f"), b"x")
    operations.utimens(PATH, (0, 5_000_000_000))
    assert operations.getattr(PATH).mtime_ns == 5_000_000_000
    operations.utimens(PATH, ((1 << 30) - 1, (1 << 30) - 2))
    assert operations.getattr(PATH).mtime_ns == 5_000_000_000
    for times in (((1 << 30) - 2, (1 << 30) - 1), None):
        operations.utimens(PATH, (0, 5_000_000_000))
        operations.utimens(PATH, times)
        assert operations.getattr(PATH).mtime_ns > 10**18


def test_what_the_kernel_may_not_believe_any_more_is_told(
    operations: Operations, store: FaultyStore
) -> None:
    """A close that failed, and a directory that went: it shows in two places."""
    store.put(Key("f"), b"old")
    store.plan = [Fault(2, Unavailable("down"), "put")]
    writer = opened(operations, os.O_RDWR)
    operations.write(PATH, b"NEW", 0, writer)
    assert CHANGED == [], "the kernel knows what went through it"
    with pytest.raises(Unavailable):
        operations.flush(PATH, writer)
    operations.release(PATH, writer)
    operations.mkdir("/d", 0o777)
    operations.rename("/d", "/e")
    operations.rmdir("/e")
    assert CHANGED == ["f", "d", "e"]


def test_only_what_the_kernel_was_told_may_be_known_to_it(
    operations: Operations, store: FaultyStore
) -> None:
    store.put(Key("f"), b"data")
    assert not operations.may_be_known(Key("f"))
    operations.getattr(PATH)
    assert operations.may_be_known(Key("f")) and not operations.may_be_known(Key("g"))


def test_a_reader_is_not_looked_up_and_not_flushed(store: FaultyStore, tmp_path: Path) -> None:
    store.put(Key("f"), b"data")
    callers: list[int] = []
    operations = Operations(
        bucket_tree(store, tmp_path),
        Ownership(uid=1, gid=1, umask=0o022, shared=False, read_only=False),
        caller=lambda: callers.append(1) or 0,
        kept_s=KEPT_S,
        told=Told(ready=list, destroyed=list, changed=CHANGED.append),
    )
    reader = opened(operations, os.O_RDONLY)
    operations.flush(PATH, reader)
    operations.release(PATH, reader)
    assert reader.noflush and not callers
    writer = opened(operations, os.O_WRONLY)
    operations.flush(PATH, writer)
    operations.release(PATH, writer)
    assert not writer.noflush and len(callers) == 2


@pytest.mark.parametrize(
    ("uid", "umask", "admitted"),
    [(0, 0o077, True), (7, 0o077, True), (8, 0o077, False), (8, 0, True)],
)
def test_who_may_enter_the_directories(uid: int, umask: int, admitted: bool) -> None:
    owner = Ownership(uid=7, gid=7, umask=umask, shared=True, read_only=False)
    assert owner.admits(uid) is admitted


def test_sizes_that_had_to_be_forgotten_are_looked_at_again() -> None:
    pages = PageCache(KEPT_S, most_paths=2)
    for number in range(5):
        pages.tell(f"/{number}", 1, "v1")
    assert pages.told_otherwise("/0", 1, "v1"), "nobody knows what the kernel believes"
    assert not pages.told_otherwise("/4", 1, "v1")
    pages.forget("/0")
    assert not pages.told_otherwise("/0", 1, "v1"), "it has been asked to look again"
