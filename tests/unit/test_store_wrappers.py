"""Each behaviour around a store: retries, counters, log, read-only, prefix."""

import threading
from pathlib import Path
from typing import Any

import pytest

from zarrfuse.config import Requests
from zarrfuse.core.keys import ETag, Key, ObjectMeta, Prefix
from zarrfuse.errors import (
    AlreadyExists,
    KeyRefused,
    NotFound,
    ReadOnly,
    RequestRejected,
    StoreError,
    Throttled,
    Unavailable,
    Unreachable,
    VersionChanged,
)
from zarrfuse.store.base import Body, Store, list_all
from zarrfuse.store.counters import Counters, CountingStore
from zarrfuse.store.faults import Fault, FaultyStore
from zarrfuse.store.log import LoggingStore
from zarrfuse.store.memory import MemoryStore
from zarrfuse.store.prefixed import PrefixedStore
from zarrfuse.store.readonly import ReadOnlyStore
from zarrfuse.store.retry import RetryingStore

KEY = Key("a/b")
QUICK = Requests(budget_s=0.5, backoff_s=0.001, backoff_max_s=0.002)


def retried(inner: Store) -> RetryingStore:
    return RetryingStore(inner, QUICK)


def verbs(faulty: FaultyStore) -> list[str]:
    return [call.verb for call in faulty.calls]


def exercise(store: Store, body: Body) -> list[Any]:
    """Every verb once; what they answered."""
    put = store.put(KEY, body)
    return [
        put.etag,
        store.get(KEY, start=1, stop=3).data,
        store.head(KEY).size,
        store.copy(KEY, Key("c")).etag,
        [row.key for row in store.list_page("").objects],
        store.put(Key("new"), body, if_absent=True).etag,
        store.delete(Key("c")),
        store.delete_many([Key("new")]),
        [row.key for row in list_all(store, "")],
    ]


# retries


@pytest.mark.parametrize("after_effect", [False, True])
@pytest.mark.parametrize("at", range(1, 10))
@pytest.mark.parametrize("error", [Unavailable("down"), Throttled("slower")])
def test_one_failure_of_any_request_is_not_seen(
    at: int, error: StoreError, after_effect: bool
) -> None:
    wanted = exercise(MemoryStore(), b"body")
    faulty = FaultyStore(MemoryStore(), [Fault(at, error, after_effect=after_effect)])
    assert exercise(retried(faulty), b"body") == wanted


@pytest.mark.parametrize("error", [NotFound("x"), RequestRejected("x"), VersionChanged("x")])
def test_an_answer_is_not_asked_for_twice(error: StoreError) -> None:
    faulty = FaultyStore(MemoryStore(), [Fault(1, error, and_all_after=True)])
    with pytest.raises(type(error)):
        retried(faulty).get(KEY)
    assert verbs(faulty) == ["get"]


def test_the_budget_ends_the_tries_with_the_last_error() -> None:
    error = Unavailable("down for good")
    faulty = FaultyStore(MemoryStore(), [Fault(1, error, and_all_after=True)])
    with pytest.raises(Unavailable, match="down for good"):
        retried(faulty).head(KEY)
    assert len(faulty.calls) > 2


def test_no_pause_is_longer_than_what_is_left() -> None:
    pauses: list[float] = []
    requests = Requests(budget_s=0.2, backoff_s=50.0, backoff_max_s=100.0)

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        threading.Event().wait(seconds)

    faulty = FaultyStore(MemoryStore(), [Fault(1, Unavailable("x"), and_all_after=True)])
    with pytest.raises(Unavailable):
        RetryingStore(faulty, requests, sleep=sleep).head(KEY)
    assert pauses
    assert max(pauses) <= 0.2


class _Failing(MemoryStore):
    """Every HEAD fails with `error`."""

    def __init__(self, error: StoreError) -> None:
        super().__init__()
        self.error = error
        self.heads = 0

    def head(self, key: Key) -> ObjectMeta:
        self.heads += 1
        raise self.error


@pytest.mark.parametrize(("asked_s", "budget_s", "pause_s"), [(7.0, 60.0, 7.0), (90.0, 0.2, 0.2)])
def test_what_the_server_asks_for_is_waited_within_the_budget(
    asked_s: float, budget_s: float, pause_s: float
) -> None:
    error = Throttled("slower", status=503)
    error.retry_after_s = asked_s
    failing = _Failing(error)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        failing.error = NotFound("answered at last")

    requests = Requests(budget_s=budget_s, backoff_s=0.001)
    with pytest.raises(NotFound):
        RetryingStore(failing, requests, sleep=sleep).head(KEY)
    assert pauses == [pytest.approx(pause_s, rel=0.2)]


def test_a_read_without_a_connection_has_a_budget_of_its_own() -> None:
    requests = Requests(budget_s=60, unreachable_s=0.05, backoff_s=0.001, backoff_max_s=0.01)
    error = Unreachable("refused")
    faulty = FaultyStore(MemoryStore(), [Fault(1, error, and_all_after=True)])
    with pytest.raises(Unreachable):
        RetryingStore(faulty, requests).head(KEY)
    assert len(faulty.calls) > 2
    for_writes = FaultyStore(MemoryStore(), [Fault(n, error) for n in range(1, 60)])
    RetryingStore(for_writes, requests).put(KEY, b"x")
    assert len(for_writes.calls) == 60


def test_who_knows_better_ends_the_tries() -> None:
    faulty = FaultyStore(MemoryStore(), [Fault(1, Unavailable("down"), and_all_after=True)])
    store = RetryingStore(faulty, QUICK, gives_up=lambda call: call.verb == "head")
    with pytest.raises(Unavailable):
        store.head(KEY)
    assert verbs(faulty) == ["head"]
    with pytest.raises(Unavailable):
        store.get(KEY)
    assert verbs(faulty).count("get") > 2


def test_a_lost_create_is_recognised_as_our_own(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"ours")
    for body in (b"ours", path):
        inner = MemoryStore()
        lost = Fault(1, Unavailable("cut"), verb="put", after_effect=True)
        meta = retried(FaultyStore(inner, [lost])).put(KEY, body, if_absent=True)
        assert meta == inner.head(KEY)


@pytest.mark.parametrize("theirs", [b"them", b"longer than ours"])
def test_a_lost_create_does_not_claim_the_object_of_another(theirs: bytes) -> None:
    inner = MemoryStore()
    inner.put(KEY, theirs)
    lost = Fault(1, Unavailable("cut"), verb="put")
    with pytest.raises(AlreadyExists):
        retried(FaultyStore(inner, [lost])).put(KEY, b"ours", if_absent=True)
    assert inner.get(KEY).data == theirs


def test_what_exists_at_the_first_try_is_never_ours() -> None:
    inner = MemoryStore()
    inner.put(KEY, b"same")
    faulty = FaultyStore(inner)
    with pytest.raises(AlreadyExists):
        retried(faulty).put(KEY, b"same", if_absent=True)
    assert verbs(faulty) == ["put"]


class _OpaqueETags(MemoryStore):
    """ETags that state no content, as a multipart upload's."""

    def head(self, key: Key) -> ObjectMeta:
        return self.opaque(super().head(key))

    def opaque(self, meta: ObjectMeta) -> ObjectMeta:
        return ObjectMeta(meta.key, meta.size, ETag(f"{meta.etag}-2"), meta.modified_ns)

    def get(self, key: Key, *, if_match: ETag | None = None, **more: Any) -> Any:
        bare = ETag(if_match.removesuffix("-2")) if if_match else None
        return super().get(key, if_match=bare, **more)


@pytest.mark.parametrize(("theirs", "ours"), [(b"them", False), (b"ours", True)])
def test_an_opaque_etag_is_compared_by_bytes(theirs: bytes, ours: bool) -> None:
    inner = _OpaqueETags()
    inner.put(KEY, theirs)
    store = retried(FaultyStore(inner, [Fault(1, Unavailable("cut"), verb="put")]))
    if ours:
        assert store.put(KEY, b"ours", if_absent=True) == inner.head(KEY)
    else:
        with pytest.raises(AlreadyExists):
            store.put(KEY, b"ours", if_absent=True)


# the others


def test_counters() -> None:
    counters = Counters()
    faulty = FaultyStore(MemoryStore(), [Fault(1, Unavailable("x"), verb="list_page")])
    store = CountingStore(faulty, counters)
    store.put(KEY, b"12345")
    store.get(KEY, stop=2)
    store.get(KEY)
    with pytest.raises(NotFound):
        store.head(Key("none"))
    with pytest.raises(Unavailable):
        store.list_page("")
    assert counters.snapshot() == {
        "get": {"requests": 2, "errors": 0, "bytes": 7},
        "head": {"requests": 1, "errors": 0, "bytes": 0},
        "list_page": {"requests": 1, "errors": 1, "bytes": 0},
        "put": {"requests": 1, "errors": 0, "bytes": 5},
    }


class _Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def debug(self, event: str, **fields: Any) -> None:
        self.lines.append(("debug", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append(("warning", event, fields))

    def levels(self) -> list[str]:
        return [level for level, _, _ in self.lines]


def test_the_log_names_the_request_and_warns_seldom() -> None:
    log, now = _Log(), 0.0
    error = Unavailable("down", status=503, request_id="tx9")
    faulty = FaultyStore(MemoryStore(), [Fault(1, error, verb="get", and_all_after=True)])
    store = LoggingStore(faulty, log=log, clock=lambda: now)
    store.put(KEY, b"12345")
    for _ in range(3):
        with pytest.raises(Unavailable):
            store.get(KEY)
    assert log.levels() == ["debug", "warning", "debug", "debug"]
    now = 61.0
    with pytest.raises(Unavailable):
        store.get(KEY)
    with pytest.raises(NotFound):
        store.head(Key("none"))
    assert log.levels()[4:] == ["warning", "debug"]
    _, _, put = log.lines[0]
    assert (put["verb"], put["key"], put["bytes"]) == ("put", KEY, 5)
    _, _, failed = log.lines[1]
    assert (failed["status"], failed["request_id"], failed["error"]) == (503, "tx9", "down")


def test_read_only() -> None:
    inner = MemoryStore()
    inner.put(KEY, b"x")
    faulty = FaultyStore(inner)
    store = ReadOnlyStore(faulty)
    for write in (
        lambda: store.put(KEY, b"y"),
        lambda: store.delete(KEY),
        lambda: store.delete_many([KEY]),
        lambda: store.copy(KEY, Key("c")),
    ):
        with pytest.raises(ReadOnly):
            write()
    assert verbs(faulty) == []
    assert store.get(KEY).data == b"x"
    assert [row.key for row in list_all(store, "")] == [KEY]


def test_a_prefix_is_a_bucket_of_its_own() -> None:
    inner = MemoryStore()
    for key in ("p/", "p", "pq/x", "outside"):
        inner.put(Key(key), b"not ours")
    store = PrefixedStore(inner, Prefix("p/"))
    assert exercise(store, b"body") == exercise(MemoryStore(), b"body")
    assert [row.key for row in list_all(inner, "")] == ["outside", "p", "p/", "p/a/b", "pq/x"]
    assert store.list_page("", delimiter=True).prefixes == ("a/",)
    with pytest.raises(KeyRefused):
        store.put(Key(""), b"would be the marker of the prefix")


def test_a_prefix_lists_page_by_page() -> None:
    inner = MemoryStore()
    inner.put(Key("p/"), b"marker")
    store = PrefixedStore(inner, Prefix("p/"))
    keys = [Key(f"k{n}") for n in range(7)]
    for key in keys:
        store.put(key, b"x")
    seen: list[Key] = []
    after: str | None = ""
    while after is not None:
        page = store.list_page("", after=after, limit=2)
        assert len(page.objects) in (1, 2)
        seen += [row.key for row in page.objects]
        after = page.next_after
    assert seen == keys


def test_faults() -> None:
    plan = [
        Fault(2, Unavailable("second get"), verb="get"),
        Fault(3, verb="get", tear_to=2),
        Fault(1, Unavailable("lost"), verb="delete", after_effect=True),
    ]
    store = FaultyStore(MemoryStore(), plan)
    store.put(KEY, b"12345")
    assert store.get(KEY).data == b"12345"
    with pytest.raises(Unavailable, match="second get"):
        store.get(KEY)
    assert store.get(KEY).data == b"12"
    with pytest.raises(Unavailable, match="lost"):
        store.delete(KEY)
    with pytest.raises(NotFound):
        store.get(KEY)
    assert verbs(store) == ["put", "get", "get", "get", "delete", "get"]
