"""From file to store: whole or not at all, in order, one at a time, nothing overwritten."""

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.netcdf import DATA, generate
from tests.support.oracles import assert_same_in_xarray, assert_same_values
from tests.support.publishing import LIMITS, ROOT, Heard, converter, publish
from zarrfuse.core.keys import ETag, Key, ObjectMeta
from zarrfuse.dropbox.lock import SUFFIX, hold
from zarrfuse.errors import (
    AlreadyExists,
    ConversionCancelled,
    ConversionCrashed,
    ConversionError,
    QuotaExceeded,
    RequestRejected,
    StoreError,
    TargetExists,
)
from zarrfuse.store.base import Body, list_all
from zarrfuse.store.faults import Fault, FaultyStore
from zarrfuse.store.local import LocalStore
from zarrfuse.store.memory import MemoryStore

AIR = DATA / "air.nc"
LOCK = Key(ROOT.as_key + SUFFIX)
SOUND = converter("store(); send(Done(4, 1, 1, 4))")


def keys(store: MemoryStore) -> list[str]:
    return [row.key for row in list_all(store, "")]


def content(store: MemoryStore) -> dict[str, bytes]:
    return {row.key: store.get(row.key).data for row in list_all(store, "")}


def put(store: MemoryStore, *names: str, data: bytes = b"theirs") -> None:
    for name in names:
        store.put(Key(name), data)


def test_a_store_that_equals_its_source(tmp_path: Path) -> None:
    heard = Heard()
    summary = publish(LocalStore(tmp_path), AIR, name="air.nc", heard=heard)
    store = tmp_path / ROOT
    assert assert_same_values(AIR, store) == summary.arrays == 4
    assert assert_same_in_xarray(AIR, store)
    assert summary.sha256 == hashlib.sha256(AIR.read_bytes()).hexdigest()
    source = json.loads((store / ".zattrs").read_bytes())["zarrfuse:source"]
    assert (source["name"], source["sha256"]) == ("air.nc", summary.sha256)
    assert source["size"] == AIR.stat().st_size
    files = [path for path in store.rglob("*") if path.is_file()]
    assert len(heard.published) == summary.objects == len(files)
    assert heard.published[-1].key == ROOT.file(".zmetadata")
    assert heard.progress[-1].done_bytes == heard.progress[-1].total_bytes == summary.raw_bytes
    assert not (tmp_path / LOCK).exists()


def test_order_of_publication() -> None:
    faulty = FaultyStore(MemoryStore())
    publish(faulty, AIR)
    puts = [str(call.key) for call in faulty.calls if call.verb == "put"]
    puts = [key.removeprefix(ROOT) for key in puts if key.startswith(ROOT)]
    kinds = [_stage(key) for key in puts]
    assert kinds == sorted(kinds)
    assert puts[-1] == ".zmetadata"
    assert kinds.count(3) == 1


def _stage(key: str) -> int:
    if key == ".zmetadata":
        return 3
    if key in (".zgroup", ".zattrs"):
        return 2
    return 1 if key.rpartition("/")[2].startswith(".z") else 0


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ("a/x.zarr", "an object called a/x.zarr"),
        ("a/x.zarr/notes.txt", "other objects, such as a/x.zarr/notes.txt"),
        ("a/x.zarr/zarr.json", "not made by this drop box"),
        ("a/x.zarr/.zgroup", "not made by this drop box"),
        ("a/x.zarr/.zmetadata", "not made by this drop box"),
    ],
)
def test_what_stands_there_is_left_alone(there: str, words: str) -> None:
    store = MemoryStore()
    put(store, there)
    before = content(store)
    with pytest.raises(TargetExists, match=words) as caught:
        publish(store, AIR)
    assert "zarrfuse convert --overwrite" in str(caught.value)
    assert content(store) == before


def test_neighbours_are_no_hindrance() -> None:
    store = MemoryStore()
    put(store, "a/x.zarr2/0", "a/x.zar", "a/x.zarr-notes", "a/x.zarr/")
    publish(store, AIR, command=SOUND)
    assert "a/x.zarr/.zmetadata" in keys(store)
    assert store.get(Key("a/x.zarr2/0")).data == b"theirs"


def test_the_same_file_again_changes_nothing() -> None:
    faulty = FaultyStore(MemoryStore())
    publish(faulty, AIR)
    faulty.calls.clear()
    assert publish(faulty, AIR).unchanged
    assert [c.key for c in faulty.calls if c.verb == "put"] == [LOCK]


def test_another_file_of_the_same_name(tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, AIR)
    before = content(store)
    with pytest.raises(TargetExists, match=r"made by zarrfuse from x\.nc on .*other content"):
        publish(store, DATA / "ubyte.nc")
    with pytest.raises(TargetExists, match=r"made by zarrfuse from x\.nc"):
        publish(store, AIR, name="other.nc")
    assert content(store) == before


@pytest.mark.parametrize("there", ["a/x.zarr", "a/x.zarr/zarr.json", "a/x.zarr/old/0/1"])
def test_overwrite_replaces_all_of_it(there: str) -> None:
    store, heard = MemoryStore(), Heard()
    put(store, there, "a/other.zarr/.zgroup")
    publish(store, DATA / "ubyte.nc", overwrite=True, heard=heard)
    assert there not in keys(store)
    assert heard.removed == [there]
    assert "a/other.zarr/.zgroup" in keys(store)


def test_overwrite_removes_metadata_before_chunks() -> None:
    faulty = FaultyStore(MemoryStore())
    publish(faulty, AIR)
    heard = Heard()
    publish(faulty, DATA / "ubyte.nc", overwrite=True, heard=heard)
    order = [_stage(key.under(ROOT)) for key in heard.removed]
    assert set(order[:3]) == {2, 3}
    assert order[3:] == sorted(order[3:], reverse=True)


def test_overwriting_with_a_bad_file_leaves_the_old_store(tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, AIR)
    before = content(store)
    bad = tmp_path / "bad.nc"
    bad.write_bytes(b"text")
    with pytest.raises(ConversionError):
        publish(store, bad, overwrite=True)
    assert content(store) == before


@pytest.mark.parametrize(
    "code",
    [
        "obj('v/0', Stage.CHUNK); os.kill(os.getpid(), signal.SIGSEGV)",
        "store()",
        "store(); os.kill(os.getpid(), signal.SIGSEGV)",
        "obj('v/0', Stage.CHUNK); obj('v/.zarray', Stage.ARRAY_METADATA); sys.exit(1)",
    ],
)
def test_a_crash_at_any_point_leaves_nothing(code: str) -> None:
    store, heard = MemoryStore(), Heard()
    put(store, "a/neighbour")
    with pytest.raises(ConversionCrashed):
        publish(store, AIR, command=converter(code), heard=heard)
    assert keys(store) == ["a/neighbour"]
    assert heard.published == []


def _puts(command: Any) -> int:
    faulty = FaultyStore(MemoryStore())
    publish(faulty, AIR, command=command)
    return len([call for call in faulty.calls if call.verb == "put"])


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_failure_of_any_put_leaves_nothing(after_effect: bool) -> None:
    for at in range(1, _puts(SOUND) + 1):
        memory = MemoryStore()
        fault = Fault(at, QuotaExceeded("full"), verb="put", after_effect=after_effect)
        with pytest.raises(StoreError, match="full"):
            publish(FaultyStore(memory, [fault]), AIR, command=SOUND)
        # An answer that was lost may leave the lock; it expires. Never an object of the store.
        assert [key for key in keys(memory) if key != LOCK] == []
        assert not (keys(memory) and not after_effect)


def test_what_cannot_be_removed_again_is_said() -> None:
    refused = RequestRejected("no")
    faults = [Fault(4, QuotaExceeded("full"), verb="put"), Fault(1, refused, verb="delete_many")]
    with pytest.raises(ConversionError, match=r"full; 2 objects could not be removed"):
        publish(FaultyStore(MemoryStore(), faults), AIR, command=SOUND)


def test_other_bytes_in_the_bucket_are_noticed() -> None:
    class Lossy(MemoryStore):
        def put(self, key: Key, body: Body, *, if_absent: bool = False) -> ObjectMeta:
            meta = super().put(key, body, if_absent=if_absent)
            if key.name != "0":
                return meta
            return ObjectMeta(key, meta.size, ETag("0" * 32), meta.modified_ns)

    store = Lossy()
    with pytest.raises(ConversionError, match="other bytes"):
        publish(store, AIR, command=SOUND)
    assert keys(store) == []


def test_cancelling_while_uploads_hang() -> None:
    gate, cancel = threading.Event(), threading.Event()

    class Slow(MemoryStore):
        def put(self, key: Key, body: Body, *, if_absent: bool = False) -> ObjectMeta:
            if key.startswith(ROOT):
                cancel.set()
                assert gate.wait(20)
            return super().put(key, body, if_absent=if_absent)

    store = Slow()
    release = threading.Timer(1.0, gate.set)
    release.start()
    with pytest.raises(ConversionCancelled):
        publish(store, AIR, command=SOUND, cancelled=cancel.is_set)
    release.join()
    assert keys(store) == []


# The lock ---------------------------------------------------------------------------------------


def test_two_at_once_never_mix() -> None:
    store = MemoryStore()
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with hold(store, ROOT, name="first.nc", deadline_s=60):
            inside.set()
            assert leave.wait(20)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(20)
    with pytest.raises(TargetExists, match=r"another conversion of first\.nc"):
        publish(store, AIR)
    leave.set()
    thread.join()
    publish(store, AIR, command=SOUND)
    assert LOCK not in keys(store)


def _dead_lock(store: MemoryStore, change: Callable[[dict[str, Any]], None]) -> None:
    """The lock of a process that was killed."""
    store.delete(LOCK)
    with hold(store, ROOT, name="dead.nc", deadline_s=60) as lock:
        lock.begin_writing()
        fields = json.loads(store.get(LOCK).data)
        change(fields)
    store.put(LOCK, json.dumps(fields).encode())


def test_a_dead_holder_and_its_rubbish_are_no_hindrance() -> None:
    store = MemoryStore()
    _dead_lock(store, lambda fields: fields.update(started=1))
    put(store, "a/x.zarr/v/0", "a/x.zarr/v/.zarray", "a/x.zarr/left/0")
    publish(store, AIR, command=SOUND)
    assert "a/x.zarr/left/0" not in keys(store)
    assert LOCK not in keys(store)


def test_after_a_dead_holder_a_store_of_others_is_still_theirs() -> None:
    for name in ("zarr.json", ".zgroup", ".zmetadata"):
        store = MemoryStore()
        _dead_lock(store, lambda fields: fields.update(started=1))
        put(store, f"a/x.zarr/{name}", "a/x.zarr/v/0")
        with pytest.raises(TargetExists):
            publish(store, AIR, command=SOUND)
        assert {f"a/x.zarr/{name}", "a/x.zarr/v/0"} <= set(keys(store))


def test_a_holder_elsewhere_has_its_time() -> None:
    store = MemoryStore()
    _dead_lock(store, lambda fields: fields.update(host="elsewhere", started=1))
    with pytest.raises(TargetExists, match=LOCK):
        publish(store, AIR, command=SOUND)
    _dead_lock(store, lambda fields: fields.update(host="elsewhere", expires=1))
    publish(store, AIR, command=SOUND)


def test_an_answer_lost_on_the_way_is_no_other_holder() -> None:
    class Echo(MemoryStore):
        """As a retry meets its own first try."""

        def put(self, key: Key, body: Body, *, if_absent: bool = False) -> ObjectMeta:
            meta = super().put(key, body, if_absent=if_absent)
            if if_absent:
                raise AlreadyExists(key)
            return meta

    publish(Echo(), AIR, command=SOUND)


def test_a_server_without_conditions_on_put() -> None:
    class Old(MemoryStore):
        def put(self, key: Key, body: Body, *, if_absent: bool = False) -> ObjectMeta:
            if if_absent:
                raise RequestRejected("not implemented", status=501)
            return super().put(key, body)

    store = Old()
    publish(store, AIR, command=SOUND)
    _dead_lock(store, lambda fields: None)
    with pytest.raises(TargetExists, match="another conversion"):
        publish(store, AIR, command=SOUND)


def test_more_than_one_page_of_objects(tmp_path: Path) -> None:
    """Chunks, metadata and the removal of an old store beyond a page of 1000 keys."""

    def fill(dataset: Any) -> None:
        dataset.createDimension("x", 2)
        for index in range(400):
            dataset.createVariable(f"v{index}", "i1", ("x",))[:] = index % 100

    source = generate(tmp_path / "many.nc", fill)
    store = MemoryStore()
    assert publish(store, source, limits=LIMITS).objects == 1203
    publish(store, AIR, overwrite=True, command=SOUND)
    assert len(keys(store)) == 4
