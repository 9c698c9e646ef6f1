"""Files being written: what is published when, what is parked, and what is never lost or half."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from zarrfuse.core.keys import Key, ObjectMeta
from zarrfuse.errors import AlreadyExists, Unavailable, VersionChanged, ZarrfuseError
from zarrfuse.spool.files import Spool
from zarrfuse.spool.publisher import Publisher
from zarrfuse.spool.written import OldName, WriteHandle, WrittenFiles
from zarrfuse.spool.written_file import Rules
from zarrfuse.store.faults import Fault, FaultyStore
from zarrfuse.store.memory import MemoryStore

KEY = Key("d/f")
CERTAIN = Key(f"d/c.{'a' * 32}.partial")
LIKELY = Key("d/x.nc.pid1.ncks.tmp")
ME, OTHER = 10, 20
DEADLINE_S = 10.0


def wait_until(happened: Callable[[], object]) -> None:
    until = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.005)


@dataclass
class World:
    spool: Spool
    store: FaultyStore
    files: WrittenFiles = field(init=False)
    failures: list[ZarrfuseError] = field(default_factory=list)
    settle_s: float | None = 0.02

    def __post_init__(self) -> None:
        publisher = Publisher(self.store, lambda meta: None, keep=lambda meta, data: None)
        rules = Rules(
            spool=self.spool,
            publish=publisher.publish,
            read_base=lambda m, a, b: self.store.get(m.key, start=a, stop=b, if_match=m.etag).data,
            failed=lambda key, error: self.failures.append(error),
            settle_s=self.settle_s,
        )
        self.files = WrittenFiles(rules, lambda meta, when: None)
        self.old = OldName(self.store.copy, self.store.delete)

    def create(
        self, key: Key = KEY, base: ObjectMeta | None = None, mode: int = 0o644
    ) -> WriteHandle:
        return self.files.create(key, base, opener=ME, exclusive=True, mode=mode)

    def stored(self) -> dict[str, bytes]:
        rows = self.store.list_page("").objects
        return {row.key: self.store.get(row.key).data for row in rows}

    def put_keys(self) -> list[str]:
        return [call.key for call in self.store.calls if call.verb == "put"]

    def spool_names(self) -> list[str]:
        return sorted(p.suffix for p in self.spool.directory.iterdir() if p.name != "lock")

    def parked(self) -> dict[str, bytes]:
        return {p.key: p.path.read_bytes() for p in self.spool.parked()}


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", keep_free_fraction=0, keep_free_bytes=0)


@pytest.fixture
def world(spool: Spool) -> World:
    return World(spool, FaultyStore(MemoryStore()))


def test_close_by_the_opener_publishes_whole(world: World) -> None:
    handle = world.create()
    handle.write(0, b"abc")
    assert world.stored() == {}
    handle.flush(ME)
    assert world.stored() == {KEY: b"abc"}
    handle.release()
    assert world.put_keys() == [KEY]
    assert world.files.find(KEY) is None and world.spool_names() == []


def test_a_flush_of_another_process_or_before_a_write_publishes_nothing(world: World) -> None:
    handle = world.create()
    handle.flush(ME)  # `cat > f`
    handle.write(0, b"half")
    handle.flush(OTHER)  # a forked child ends
    assert world.stored() == {}
    handle.write(4, b" and half")
    handle.release()
    assert world.stored() == {KEY: b"half and half"}


def test_an_empty_file_is_published_at_its_release(world: World) -> None:
    handle = world.create()
    handle.flush(ME)
    handle.release()
    assert world.stored() == {KEY: b""}


def test_a_close_that_fails_parks_the_bytes_and_shows_the_old_version(world: World) -> None:
    base = world.store.put(KEY, b"old")
    world.store.plan = [Fault(2, Unavailable("down"), "put", and_all_after=True)]
    handle = world.create(base=base)
    handle.write(0, b"new")
    with pytest.raises(Unavailable):
        handle.flush(ME)
    assert world.files.find(KEY) is None, "the tree shows the bucket's version"
    assert handle.read(0, 10) == b"new", "its own handle still has the bytes"
    handle.release()
    assert world.stored() == {KEY: b"old"}
    assert world.parked() == {KEY: b"new"}
    assert world.put_keys() == [KEY, KEY], "release does not try what close() has answered"


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_further_close_or_fsync_of_the_same_handle_publishes(
    world: World, after_effect: bool
) -> None:
    world.store.plan = [Fault(1, Unavailable("down"), "put", after_effect=after_effect)]
    handle = world.create()
    handle.write(0, b"new")
    with pytest.raises(Unavailable):
        handle.flush(ME)
    handle.sync()
    handle.release()
    assert world.stored() == {KEY: b"new"}
    assert world.parked() == {} and world.spool_names() == []


def test_a_release_that_fails_is_told_and_parked(world: World) -> None:
    world.store.plan = [Fault(1, Unavailable("down"), "put")]
    handle = world.create()
    handle.write(0, b"new")
    handle.release()
    assert [str(error) for error in world.failures] == ["down"]
    assert world.parked() == {KEY: b"new"}


def test_a_temporary_name_never_reaches_the_store(world: World) -> None:
    handle = world.create(CERTAIN)
    handle.write(0, b"chunk")
    handle.flush(ME)
    handle.sync()
    handle.release()
    file = world.files.find(CERTAIN)
    assert file is not None
    assert world.store.calls == []
    world.files.rename(file, KEY, world.old)
    assert [(c.verb, c.key) for c in world.store.calls] == [("put", KEY)]
    assert world.spool_names() == []


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_rename_that_fails_can_be_repeated(world: World, after_effect: bool) -> None:
    world.store.plan = [Fault(1, Unavailable("down"), "put", after_effect=after_effect)]
    handle = world.create(CERTAIN)
    handle.write(0, b"chunk")
    handle.release()
    file = world.files.find(CERTAIN)
    assert file is not None
    with pytest.raises(Unavailable):
        world.files.rename(file, KEY, world.old)
    assert world.files.find(CERTAIN) is file
    world.files.rename(file, KEY, world.old)
    assert world.stored() == {KEY: b"chunk"} and world.spool_names() == []


def test_a_link_publishes_once_and_keeps_its_own_name(world: World) -> None:
    handle = world.create(CERTAIN)
    handle.write(0, b"lock")
    handle.file.publish_copy(KEY)
    with pytest.raises(AlreadyExists):
        handle.file.publish_copy(KEY)
    assert world.files.find(CERTAIN) is handle.file
    handle.release()
    world.files.unlink(handle.file, lambda: pytest.fail("nothing stands under that name"))
    assert world.stored() == {KEY: b"lock"} and world.spool_names() == []


def test_a_likely_temporary_settles_under_its_own_name(world: World) -> None:
    handle = world.create(LIKELY)
    handle.write(0, b"x")
    handle.flush(ME)
    assert world.stored() == {}
    handle.release()
    wait_until(lambda: world.stored() == {LIKELY: b"x"})
    wait_until(lambda: world.files.find(LIKELY) is None)
    wait_until(lambda: world.spool_names() == [])


def test_a_likely_temporary_whose_rename_failed_settles_all_the_same(world: World) -> None:
    world.store.plan = [Fault(1, Unavailable("down"), "put")]
    handle = world.create(LIKELY)
    handle.write(0, b"x")
    handle.release()
    with pytest.raises(Unavailable):
        world.files.rename(handle.file, KEY, world.old)
    wait_until(lambda: world.stored() == {LIKELY: b"x"})


def test_without_a_settling_time_a_likely_temporary_is_never_published(spool: Spool) -> None:
    world = World(spool, FaultyStore(MemoryStore()), settle_s=None)
    handle = world.create(LIKELY)
    handle.write(0, b"half")
    handle.release()
    assert handle.file.settle is None
    world.files.drain()
    assert world.store.calls == []
    assert world.parked() == {LIKELY: b"half"}


def test_drain_publishes_what_is_closed_and_parks_what_is_not(world: World) -> None:
    world.settle_s = 60
    world.__post_init__()
    base = world.store.put(KEY, b"old and whole")
    writing = world.files.create(KEY, base, opener=ME, exclusive=False, mode=0o644)
    writing.write(0, b"half")
    for key in (LIKELY, CERTAIN):
        handle = world.create(key)
        handle.write(0, b"x")
        handle.release()
    unchanged = world.files.open(Key("d/other"), world.store.put(Key("d/other"), b"o"), opener=ME)
    unchanged.read(0, 1)
    world.files.drain()
    assert world.stored() == {KEY: b"old and whole", LIKELY: b"x", "d/other": b"o"}
    assert world.parked() == {KEY: b"half", CERTAIN: b"x"}


def test_a_temporary_that_replaces_another_leaves_no_scraps(world: World) -> None:
    second = Key(f"d/c.{'b' * 32}.partial")
    for key in (CERTAIN, second):
        handle = world.create(key)
        handle.write(0, key.encode())
        handle.release()
    file = world.files.find(CERTAIN)
    assert file is not None
    world.files.rename(file, second, world.old)
    assert world.files.find(second) is file
    assert world.spool_names() == [".data", ".json"]


def test_a_settled_temporary_renamed_while_open_leaves_no_ghost(world: World) -> None:
    base = world.store.put(LIKELY, b"settled before")
    handle = world.files.open(LIKELY, base, opener=ME)
    handle.write(0, b"SETTLED")
    world.files.rename(handle.file, KEY, world.old)
    handle.release()
    assert world.stored() == {KEY: b"SETTLED before"}


def test_an_open_file_renamed_is_copied_and_later_writes_are_its_own(world: World) -> None:
    handle = world.files.open(KEY, world.store.put(KEY, b"bytes"), opener=ME)
    world.files.rename(handle.file, Key("d/g"), world.old)
    assert [c.verb for c in world.store.calls] == ["put", "copy", "delete"]
    handle.write(0, b"B")
    handle.flush(ME)
    handle.release()
    assert world.stored() == {"d/g": b"Bytes"}


def test_a_write_during_a_rename_is_not_lost(world: World) -> None:
    handle = world.files.open(KEY, world.store.put(KEY, b"bytes"), opener=ME)
    writers: list[threading.Thread] = []

    def copy(source: Key, target: Key) -> ObjectMeta:
        copied = world.store.copy(source, target)
        writers.append(threading.Thread(target=handle.write, args=(0, b"B")))
        writers[0].start()
        writers[0].join(0.05)  # it has to wait for the rename; if it did not, it would be done
        return copied

    world.files.rename(handle.file, Key("d/g"), OldName(copy, world.store.delete))
    writers[0].join(DEADLINE_S)
    handle.release()
    assert world.stored() == {"d/g": b"Bytes"}


def test_removed_while_written_nothing_is_published(world: World) -> None:
    handle = world.create()
    handle.write(0, b"x")
    world.files.unlink(handle.file, lambda: pytest.fail("nothing stands there"))
    assert handle.read(0, 5) == b"x"
    handle.flush(ME)
    handle.release()
    assert world.stored() == {} and world.spool_names() == []


def test_removed_while_published_no_ghost_remains(world: World) -> None:
    """rm during the upload of a close(): the object must not come to stand there afterwards."""
    handle = world.create()
    handle.write(0, b"x")
    sending, go_on = threading.Event(), threading.Event()
    true_put = world.store._inner.put

    def slow(key: Key, body: bytes, **how: bool) -> ObjectMeta:
        sending.set()
        assert go_on.wait(DEADLINE_S)
        return true_put(key, body, **how)

    world.store._inner.put = slow  # type: ignore[method-assign, assignment]
    closer = threading.Thread(target=handle.flush, args=(ME,))
    closer.start()
    assert sending.wait(DEADLINE_S)
    remover = threading.Thread(
        target=world.files.unlink, args=(handle.file, lambda: world.store.delete(KEY))
    )
    remover.start()
    remover.join(0.05)
    go_on.set()
    closer.join(DEADLINE_S)
    remover.join(DEADLINE_S)
    handle.release()
    assert world.stored() == {}


def test_a_removal_that_is_refused_changes_nothing(world: World) -> None:
    handle = world.files.open(KEY, world.store.put(KEY, b"old"), opener=ME)
    handle.write(0, b"new")

    def refused() -> None:
        raise Unavailable("down")

    with pytest.raises(Unavailable):
        world.files.unlink(handle.file, refused)
    assert world.files.find(KEY) is handle.file
    handle.flush(ME)
    assert world.stored() == {KEY: b"new"}


def test_a_late_release_does_not_publish_the_next_writers_half(world: World) -> None:
    """RELEASE comes asynchronously: the next open may be there before it is answered."""
    first = world.create()
    first.write(0, b"first")
    first.flush(ME)
    with first.file.lock:  # the release counts down, and waits for this
        late = threading.Thread(target=first.release)
        late.start()
        wait_until(lambda: first.file.handles == 0)
        # Its lock is ours, so that this is what happens between the count and the waiting.
        second = world.files.create(KEY, None, opener=OTHER, exclusive=False, mode=0o644)
        second.write(0, b"sec")
    late.join(DEADLINE_S)
    assert world.stored() == {KEY: b"first"}
    second.write(3, b"ond")
    second.flush(OTHER)
    second.release()
    assert world.stored() == {KEY: b"second"} and world.spool_names() == []


def test_a_change_in_the_middle_keeps_the_rest(world: World) -> None:
    handle = world.files.open(KEY, world.store.put(KEY, b"0123456789"), opener=ME)
    assert handle.read(8, 100) == b"89"
    handle.write(3, b"abc")
    assert handle.read(0, 100) == b"012abc6789"
    handle.truncate(5)
    handle.flush(ME)
    assert world.stored() == {KEY: b"012ab"}


def test_a_change_of_a_version_that_is_gone_is_refused(world: World) -> None:
    base = world.store.put(KEY, b"old")
    world.store.put(KEY, b"another client's")
    handle = world.files.open(KEY, base, opener=ME)
    with pytest.raises(VersionChanged):
        handle.write(0, b"x")
    handle.release()
    assert world.stored() == {KEY: b"another client's"} and world.spool_names() == []
