"""What every bucket tree does, whatever store is under it: errnos, renames, and what is kept."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.trees import TestedTree, bucket_tree
from zarrfuse.core.keys import Key
from zarrfuse.errors import Unavailable, ZarrfuseError, errno_of
from zarrfuse.store.base import Store
from zarrfuse.store.faults import Fault, FaultyStore
from zarrfuse.tree.base import Opening
from zarrfuse.tree.readonly import ReadOnlyTree
from zarrfuse.tree.router import RouterTree

READ = Opening(read_only=True)
WRITE = Opening(read_only=False, opener=1)
NEW = Opening(read_only=False, truncate=True, opener=1)
EXCLUSIVE = Opening(read_only=False, exclusive=True, opener=1)
PARTIAL = f"c.{'a' * 32}.partial"
LIKELY = "x.nc.pid1.ncks.tmp"
DEADLINE_S = 10.0


def write(tree: TestedTree, path: str, data: bytes, how: Opening = NEW) -> None:
    handle = tree.create(path, how)
    try:
        handle.write(0, data)
        handle.flush(1)
    finally:
        handle.release()


def read(tree: TestedTree, path: str) -> bytes:
    handle = tree.open(path, READ)
    try:
        return handle.read(0, handle.attributes.size)
    finally:
        handle.release()


def refused(number: int, what: Callable[[], object]) -> None:
    with pytest.raises(ZarrfuseError) as caught:
        what()
    assert errno.errorcode[errno_of(caught.value)] == errno.errorcode[number]


class TreeContract:
    """A subclass's module gives the fixture `store`."""

    @pytest.fixture
    def faulty(self, store: Store) -> FaultyStore:
        return FaultyStore(store)

    @pytest.fixture
    def tree(self, faulty: FaultyStore, tmp_path: Path) -> TestedTree:
        tree = bucket_tree(faulty, tmp_path)
        for path in ("/a", "/a/b"):
            tree.mkdir(path)
        write(tree, "/a/f", b"bytes")
        write(tree, "/a/b/g", b"more")
        faulty.calls.clear()
        return tree

    @staticmethod
    def stored(store: Store) -> dict[str, bytes]:
        return {row.key: store.get(row.key).data for row in store.list_page("").objects}

    @staticmethod
    def names(tree: TestedTree, path: str) -> list[str]:
        return [name for name, _ in tree.entries(path)]

    # Answers -------------------------------------------------------------------------------

    def test_what_was_written_is_there(self, tree: TestedTree, store: Store) -> None:
        assert self.names(tree, "/") == ["a"]
        assert self.names(tree, "/a") == ["b", "f"]
        assert tree.attributes("/a").is_directory
        assert tree.attributes("/a/f").size == 5
        assert read(tree, "/a/b/g") == b"more"
        assert self.stored(store) == {"a/f": b"bytes", "a/b/g": b"more"}

    def test_what_is_not_there_is_enoent(self, tree: TestedTree) -> None:
        for path in ("/x", "/a/x", f"/a/{PARTIAL}"):
            refused(errno.ENOENT, lambda path=path: tree.attributes(path))
            refused(errno.ENOENT, lambda path=path: tree.entries(path))
            refused(errno.ENOENT, lambda path=path: tree.open(path, READ))
            refused(errno.ENOENT, lambda path=path: tree.open(path, WRITE))
            refused(errno.ENOENT, lambda path=path: tree.unlink(path))
            refused(errno.ENOENT, lambda path=path: tree.rmdir(path))
            refused(errno.ENOENT, lambda path=path: tree.rename(path, "/a/y"))
            refused(errno.ENOENT, lambda path=path: tree.truncate(path, 0))

    def test_a_writer_does_not_start_from_what_was_known_once(
        self, store: Store, faulty: FaultyStore, tmp_path: Path
    ) -> None:
        tree = bucket_tree(faulty, tmp_path, ttl_s=0)
        store.put(Key("a/f"), b"bytes")
        assert read(tree, "/a/f") == b"bytes"
        refused(errno.ENOENT, lambda: tree.attributes("/a/x"))
        store.put(Key("a/f"), b"of another client")
        store.put(Key("a/x"), b"of another client")
        faulty.calls.clear()
        faulty.plan = [Fault(1, Unavailable("down"), and_all_after=True)]
        assert tree.attributes("/a/f").size == 5
        refused(errno.EIO, lambda: tree.open("/a/f", WRITE))
        refused(errno.EIO, lambda: tree.truncate("/a/f", 2))
        refused(errno.EIO, lambda: tree.create("/a/f", EXCLUSIVE))
        refused(errno.EIO, lambda: tree.create("/a/x", EXCLUSIVE))
        faulty.plan = []
        refused(errno.EEXIST, lambda: tree.create("/a/x", EXCLUSIVE))
        assert set(self.stored(store).values()) == {b"of another client"}

    def test_a_version_that_is_gone_is_read_once_at_most_though_the_listing_lags(
        self, store: Store, faulty: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tree = bucket_tree(faulty, tmp_path)
        store.put(Key("f"), b"bytes")
        before = store.list_page("", delimiter=True)
        monkeypatch.setattr(faulty, "list_page", lambda *_, **__: before)
        assert tree.attributes("/f").size == 5
        store.put(Key("f"), b"of another client")
        refused(errno.ESTALE, lambda: read(tree, "/f"))
        assert read(tree, "/f") == b"of another client"
        store.delete(Key("f"))
        refused(errno.ESTALE, lambda: read(tree, "/f"))
        refused(errno.ENOENT, lambda: read(tree, "/f"))

    def test_the_wrong_kind_is_told(self, tree: TestedTree) -> None:
        refused(errno.ENOTDIR, lambda: tree.entries("/a/f"))
        refused(errno.ENOTDIR, lambda: tree.rmdir("/a/f"))
        refused(errno.EISDIR, lambda: tree.open("/a", READ))
        refused(errno.EISDIR, lambda: tree.open("/a", WRITE))
        refused(errno.EISDIR, lambda: tree.create("/a/b", NEW))
        refused(errno.EISDIR, lambda: tree.unlink("/a/b"))
        refused(errno.EISDIR, lambda: tree.rename("/a/f", "/a/b"))
        refused(errno.ENOTDIR, lambda: tree.rename("/a/b", "/a/f"))

    def test_what_exists_is_not_made_again(self, tree: TestedTree) -> None:
        refused(errno.EEXIST, lambda: tree.mkdir("/a/b"))
        refused(errno.EEXIST, lambda: tree.mkdir("/a/f"))
        refused(errno.EEXIST, lambda: tree.create("/a/f", EXCLUSIVE))

    def test_a_full_directory_stays(self, tree: TestedTree) -> None:
        refused(errno.ENOTEMPTY, lambda: tree.rmdir("/a"))
        tree.mkdir("/c")
        write(tree, "/c/x", b"x")
        refused(errno.ENOTEMPTY, lambda: tree.rename("/a", "/c"))
        tree.mkdir("/d")
        handle = tree.create("/d/new", NEW)
        refused(errno.ENOTEMPTY, lambda: tree.rmdir("/d"))
        handle.release()

    def test_what_a_bucket_cannot_have_is_refused(self, tree: TestedTree) -> None:
        refused(errno.EOPNOTSUPP, lambda: tree.link("/a/f", "/a/l"))
        refused(errno.ENAMETOOLONG, lambda: tree.mkdir("/" + "n" * 256))
        refused(errno.ENAMETOOLONG, lambda: tree.create("/" + "n/" * 600 + "n", NEW))
        refused(errno.EINVAL, lambda: tree.create("/\udcff", NEW))
        refused(errno.EINVAL, lambda: tree.rename("/a", "/a/b/c"))

    def test_a_handle_for_reading_takes_no_bytes(self, tree: TestedTree) -> None:
        handle = tree.open("/a/f", READ)
        refused(errno.EBADF, lambda: handle.write(0, b"x"))
        refused(errno.EBADF, lambda: handle.truncate(0))

    def test_a_failure_is_never_absence(self, tree: TestedTree, faulty: FaultyStore) -> None:
        faulty.plan = [Fault(1, Unavailable("down"), and_all_after=True)]
        refused(errno.EIO, lambda: tree.attributes("/never/seen"))
        refused(errno.EIO, lambda: tree.entries("/never"))
        refused(errno.EIO, lambda: tree.open("/never/seen", READ))
        refused(errno.EIO, lambda: tree.unlink("/a/f"))
        faulty.plan = []
        assert read(tree, "/a/f") == b"bytes", "what could not be removed is still there"

    # Versions ------------------------------------------------------------------------------

    def test_a_reader_gets_one_version_or_estale(self, tree: TestedTree, store: Store) -> None:
        handle = tree.open("/a/f", READ)
        assert handle.read(0, 2) == b"by"
        store.put(Key("a/f"), b"other")
        refused(errno.ESTALE, lambda: handle.read(2, 3))
        assert read(tree, "/a/f") == b"other", "the next open has the new one at once"

    def test_estale_of_one_file_forgets_no_change_of_ours_beside_it(
        self, faulty: FaultyStore, store: Store, tmp_path: Path
    ) -> None:
        """A listing that lags behind would show what we deleted."""
        store.put(Key("d/f"), b"1")
        store.put(Key("d/gone"), b"x")
        lagging = store.list_page("d/", delimiter=True)
        tree = bucket_tree(faulty, tmp_path)
        handle = tree.open("/d/f", READ)
        tree.unlink("/d/gone")
        store.put(Key("d/f"), b"22")
        faulty.list_page = lambda *_, **__: lagging  # type: ignore[method-assign]
        refused(errno.ESTALE, lambda: handle.read(0, 1))
        assert self.names(tree, "/d") == ["f"]

    def test_truncate_by_path_is_published(self, tree: TestedTree, store: Store) -> None:
        tree.truncate("/a/f", 2)
        assert store.get(Key("a/f")).data == b"by"

    def test_truncate_by_path_publishes_no_half_of_a_writer(
        self, tree: TestedTree, store: Store
    ) -> None:
        handle = tree.open("/a/f", WRITE)
        handle.write(0, b"half")
        tree.truncate("/a/f", 4)
        assert store.get(Key("a/f")).data == b"bytes"
        handle.write(4, b" and half")
        handle.flush(1)
        handle.release()
        assert store.get(Key("a/f")).data == b"half and half"

    # Temporary names -----------------------------------------------------------------------

    def test_a_temporary_name_never_reaches_the_store(
        self, tree: TestedTree, faulty: FaultyStore
    ) -> None:
        write(tree, f"/a/{PARTIAL}", b"chunk")
        assert tree.attributes(f"/a/{PARTIAL}").size == 5
        assert read(tree, f"/a/{PARTIAL}") == b"chunk"
        tree.rename(f"/a/{PARTIAL}", "/a/c")
        assert [(c.verb, c.key) for c in faulty.calls] == [("put", "a/c")]
        refused(errno.ENOENT, lambda: tree.attributes(f"/a/{PARTIAL}"))

    def test_removing_a_temporary_asks_nothing(self, tree: TestedTree, faulty: FaultyStore) -> None:
        write(tree, f"/a/{PARTIAL}", b"chunk")
        tree.unlink(f"/a/{PARTIAL}")
        assert faulty.calls == []
        assert list(tree.spool.directory.glob("*.data")) == []

    def test_link_gives_a_free_name_only(self, tree: TestedTree, store: Store) -> None:
        write(tree, f"/a/{PARTIAL}", b"new")
        refused(errno.EEXIST, lambda: tree.link(f"/a/{PARTIAL}", "/a/f"))
        store.put(Key("a/unseen"), b"of another client")
        refused(errno.EEXIST, lambda: tree.link(f"/a/{PARTIAL}", "/a/unseen"))
        assert read(tree, "/a/unseen") == b"of another client", "what was refused is seen now"
        writing = tree.create("/a/w", NEW)
        refused(errno.EEXIST, lambda: tree.link(f"/a/{PARTIAL}", "/a/w"))
        writing.release()
        tree.link(f"/a/{PARTIAL}", "/a/l")
        assert read(tree, "/a/l") == b"new"

    def test_a_likely_temporary_settles(self, tree: TestedTree, store: Store) -> None:
        write(tree, f"/a/{LIKELY}", b"x")
        until = time.monotonic() + DEADLINE_S
        while f"a/{LIKELY}" not in self.stored(store):
            assert time.monotonic() < until
            time.sleep(0.01)

    def test_what_a_killed_writer_left_keeps_no_directory(self, tree: TestedTree) -> None:
        """No listing shows it, so `rm -r` could not remove it."""
        tree.mkdir("/k")
        write(tree, f"/k/{PARTIAL}", b"x")
        assert self.names(tree, "/k") == []
        tree.rmdir("/k")
        refused(errno.ENOENT, lambda: tree.attributes("/k"))
        assert list(tree.spool.directory.glob("*.data")) == []

    # Removed while open (libfuse renames to .fuse_hidden...) --------------------------------

    @pytest.mark.parametrize("how", [READ, WRITE])
    def test_removed_while_open_the_name_is_gone(
        self, tree: TestedTree, store: Store, how: Opening
    ) -> None:
        handle = tree.open("/a/f", how)
        tree.rename("/a/f", "/a/.fuse_hidden0001")
        refused(errno.ENOENT, lambda: tree.attributes("/a/f"))
        handle.release()
        assert self.names(tree, "/a") == ["b"]
        assert list(self.stored(store)) == ["a/b/g"]

    def test_removed_while_written_the_writer_goes_on_and_leaves_nothing(
        self, tree: TestedTree, faulty: FaultyStore, store: Store
    ) -> None:
        handle = tree.open("/a/f", WRITE)
        handle.write(0, b"B")
        faulty.calls.clear()
        tree.rename("/a/f", "/a/.fuse_hidden0001")
        assert handle.read(0, 10) == b"Bytes"
        handle.flush(1)
        handle.release()
        tree.unlink("/a/.fuse_hidden0001")
        assert [(c.verb, c.key) for c in faulty.calls] == [("delete", "a/f")]
        assert list(self.stored(store)) == ["a/b/g"]
        assert list(tree.spool.directory.glob("*.data")) == []

    def test_a_removal_that_fails_leaves_the_writer_its_file(
        self, tree: TestedTree, faulty: FaultyStore, store: Store
    ) -> None:
        handle = tree.open("/a/f", WRITE)
        handle.write(0, b"B")
        faulty.calls.clear()
        faulty.plan = [Fault(1, Unavailable("down"), "delete")]
        refused(errno.EIO, lambda: tree.rename("/a/f", "/a/.fuse_hidden0001"))
        handle.flush(1)
        handle.release()
        assert store.get(Key("a/f")).data == b"Bytes"

    # Renames -------------------------------------------------------------------------------

    def test_a_file_is_renamed_over_another(self, tree: TestedTree, store: Store) -> None:
        tree.rename("/a/f", "/a/b/g")
        assert self.stored(store) == {"a/b/g": b"bytes"}
        assert self.names(tree, "/a") == ["b"]

    def test_a_directory_is_renamed_metadata_last(
        self, tree: TestedTree, faulty: FaultyStore, store: Store
    ) -> None:
        tree.mkdir("/z")
        tree.mkdir("/z/empty")
        for name in (".zarray", "0.0", "0.1"):
            write(tree, f"/z/{name}", name.encode())
        faulty.calls.clear()
        tree.rename("/z", "/y")
        order = [(c.verb, c.key) for c in faulty.calls if c.verb in ("copy", "delete")]
        assert order[2] == ("copy", "y/.zarray") and order[3] == ("delete", "z/.zarray")
        assert self.names(tree, "/y") == [".zarray", "0.0", "0.1", "empty"]
        refused(errno.ENOENT, lambda: tree.attributes("/z"))
        assert {k for k in self.stored(store) if k[0] in "yz"} == {"y/.zarray", "y/0.0", "y/0.1"}

    def test_a_directory_rename_that_breaks_loses_nothing(
        self, faulty: FaultyStore, store: Store, tmp_path: Path
    ) -> None:
        content = {f"z/{name}": name.encode() for name in (".zarray", "0", "1", "2")}
        for number in range(1, 9):
            for after_effect in (False, True):
                for key in self.stored(store):
                    store.delete(Key(key))
                for key, data in content.items():
                    store.put(Key(key), data)
                place = tmp_path / f"{number}-{after_effect}"
                tree = bucket_tree(faulty, place)
                assert len(self.names(tree, "/z")) == 4
                tree.attributes("/z")
                calls = len([c for c in faulty.calls if c.verb in ("copy", "delete")])
                verb = "copy" if number <= 4 else "delete"
                done = len([c for c in faulty.calls if c.verb == verb])
                at = done + (number - 1) % 4 + 1
                faulty.plan = [Fault(at, Unavailable("down"), verb, after_effect=after_effect)]
                refused(errno.EIO, lambda tree=tree: tree.rename("/z", "/y"))
                faulty.plan = []
                assert calls < len(faulty.calls)
                held = self.stored(store)
                for key, data in content.items():
                    assert data in (held.get(key), held.get("y" + key[1:]))

    def test_a_directory_that_is_too_large_is_left_to_mv(
        self, faulty: FaultyStore, store: Store, tmp_path: Path
    ) -> None:
        for n in range(4):
            store.put(Key(f"z/{n}"), b"x")
        tree = bucket_tree(faulty, tmp_path, rename_max_objects=3)
        refused(errno.EXDEV, lambda: tree.rename("/z", "/y"))
        assert len(self.stored(store)) == 4

    def test_a_directory_that_is_written_in_is_left_to_mv(self, tree: TestedTree) -> None:
        handle = tree.create("/a/b/new", NEW)
        refused(errno.EXDEV, lambda: tree.rename("/a/b", "/a/c"))
        handle.release()

    def test_a_directory_rename_takes_along_what_a_late_listing_does_not_show(
        self, tree: TestedTree, faulty: FaultyStore, store: Store
    ) -> None:
        tree.mkdir("/z")
        write(tree, "/z/old", b"old")
        write(tree, "/z/gone", b"gone")
        lagging = store.list_page("z/")
        tree.unlink("/z/gone")
        write(tree, "/z/new", b"new")
        true_list = faulty.list_page

        def late(prefix: str, **how: object) -> object:
            return lagging if prefix == "z/" else true_list(prefix, **how)  # type: ignore[arg-type]

        faulty.list_page = late  # type: ignore[method-assign, assignment]
        tree.rename("/z", "/y")
        held = {k: v for k, v in self.stored(store).items() if k[0] in "yz"}
        assert held == {"y/old": b"old", "y/new": b"new"}

    def test_an_emptied_directory_is_removed_though_the_listing_lags(
        self, tree: TestedTree, faulty: FaultyStore, store: Store
    ) -> None:
        tree.mkdir("/z")
        write(tree, "/z/gone", b"gone")
        lagging = store.list_page("z/")
        tree.unlink("/z/gone")
        faulty.list_page = lambda *_, **__: lagging  # type: ignore[method-assign]
        tree.rmdir("/z")

    def test_rmdir_sees_what_another_client_has_put(self, tree: TestedTree, store: Store) -> None:
        tree.mkdir("/z")
        store.put(Key("z/theirs"), b"x")
        refused(errno.ENOTEMPTY, lambda: tree.rmdir("/z"))
        assert read(tree, "/z/theirs") == b"x"

    # Failures to publish -------------------------------------------------------------------

    def test_a_close_that_fails_is_told_parked_and_not_shown(
        self, tree: TestedTree, faulty: FaultyStore
    ) -> None:
        faulty.plan = [Fault(1, Unavailable("down"), "put", and_all_after=True)]
        refused(errno.EIO, lambda: write(tree, "/a/f", b"changed"))
        refused(errno.EIO, lambda: write(tree, "/a/new", b"new"))
        assert read(tree, "/a/f") == b"bytes"
        refused(errno.ENOENT, lambda: tree.attributes("/a/new"))
        parked = {p.key: p.path.read_bytes() for p in tree.spool.parked()}
        assert parked == {"a/f": b"changed", "a/new": b"new"}

    # Around it -----------------------------------------------------------------------------

    def test_read_only_refuses_every_change(self, tree: TestedTree, faulty: FaultyStore) -> None:
        shut = ReadOnlyTree(tree)
        assert shut.open("/a/f", READ).read(0, 5) == b"bytes"
        assert [name for name, _ in shut.entries("/a")] == ["b", "f"]
        for change in (
            lambda: shut.open("/a/f", WRITE),
            lambda: shut.create("/n", NEW),
            lambda: shut.truncate("/a/f", 0),
            lambda: shut.mkdir("/d"),
            lambda: shut.rmdir("/a/b"),
            lambda: shut.unlink("/a/f"),
            lambda: shut.rename("/a/f", "/a/g"),
            lambda: shut.link("/a/f", "/a/g"),
            lambda: shut.set_time("/a/f", 1),
        ):
            refused(errno.EROFS, change)
        assert not {c.verb for c in faulty.calls} & {"put", "copy", "delete"}

    def test_a_router_keeps_two_trees_apart(
        self, tree: TestedTree, faulty: FaultyStore, tmp_path: Path
    ) -> None:
        inner = bucket_tree(faulty, tmp_path / "inner")
        routed = RouterTree(tree, inner, "drop")
        assert [name for name, _ in routed.entries("/")] == ["a", "drop"]
        assert routed.attributes("/drop").is_directory
        assert [name for name, _ in routed.entries("/drop/a")] == ["b", "f"]
        refused(errno.EXDEV, lambda: routed.rename("/a/f", "/drop/f"))
        refused(errno.EXDEV, lambda: routed.link("/a/f", "/drop/f"))
        refused(errno.EEXIST, lambda: routed.mkdir("/drop"))
        refused(errno.EBUSY, lambda: routed.rmdir("/drop"))
        refused(errno.EBUSY, lambda: routed.rename("/drop", "/x"))
        refused(errno.EBUSY, lambda: routed.rename("/a", "/drop"))
        refused(errno.ENOENT, lambda: routed.attributes("/dropx"))

    def test_a_router_shows_its_own_name_once(
        self, tree: TestedTree, faulty: FaultyStore, tmp_path: Path
    ) -> None:
        write(tree, "/drop", b"put there later")
        routed = RouterTree(tree, bucket_tree(faulty, tmp_path / "inner"), "drop")
        shown = list(routed.entries("/"))
        assert [name for name, _ in shown] == ["a", "drop"] and shown[1][1].is_directory
