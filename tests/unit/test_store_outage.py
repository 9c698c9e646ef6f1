"""While a bucket is silent: who waits, who fails at once, who looks, and when it is over."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.support.mounts import wait_until
from zarrfuse.config import Requests
from zarrfuse.core.keys import Key, ObjectMeta
from zarrfuse.errors import (
    KeyRefused,
    NotFound,
    Offline,
    RequestRejected,
    StoreError,
    Throttled,
    Unavailable,
    Unreachable,
)
from zarrfuse.store.base import Store
from zarrfuse.store.faults import Fault, FaultyStore
from zarrfuse.store.memory import MemoryStore
from zarrfuse.store.outage import Outage, OutageStore, is_silence
from zarrfuse.store.retry import RetryingStore

KEY = Key("a/b")
QUICK = Requests(budget_s=0.3, unreachable_s=0.3, backoff_s=0.001, backoff_max_s=0.05)
REFUSED = Unreachable("connection refused")


class World:
    """A bucket of one object with faults below the retries, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.faulty = FaultyStore(MemoryStore())
        self.faulty.put(KEY, b"bytes")
        self.outage = Outage(5.0, clock=lambda: self.now)
        retried = RetryingStore(self.faulty, QUICK, gives_up=self.outage.gives_up)
        self.store: Store = OutageStore(retried, self.outage, once=self.faulty)

    def fail(self, error: StoreError | None, verb: str | None = None) -> None:
        """From now on, until told otherwise."""
        self.faulty.plan = [Fault(1, error, verb=verb, and_all_after=True)] if error else []

    def tries(self, ask: Callable[[], object], error: type[StoreError]) -> int:
        """How many requests reach the bucket for a question that fails so."""
        before = len(self.faulty.calls)
        with pytest.raises(error) as caught:
            ask()
        assert type(caught.value) is error
        return len(self.faulty.calls) - before

    def reads(self) -> list[Callable[[], object]]:
        return [
            lambda: self.store.get(KEY),
            lambda: self.store.head(KEY),
            lambda: self.store.list_page(""),
        ]

    @property
    def offline(self) -> bool:
        return self.outage.silence is not None


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def down(world: World) -> World:
    """Known to be offline, for a second already."""
    world.fail(REFUSED)
    assert world.tries(lambda: world.store.get(KEY), Offline) > 2
    world.now += 1
    return world


def test_reads_fail_at_once_and_say_why(down: World) -> None:
    for read in down.reads():
        assert down.tries(read, Offline) == 0
    with pytest.raises(Offline, match="connection refused"):
        down.store.get(KEY)
    assert down.outage.silence is not None
    assert "connection refused" in down.outage.silence.reason


def test_one_read_in_a_while_goes_to_look_and_has_one_try(down: World) -> None:
    down.now += 5
    assert [down.tries(read, Offline) for read in down.reads()] == [1, 0, 0]
    down.now += 5
    assert down.tries(lambda: down.store.get(KEY), Offline) == 1


def test_an_answer_ends_it(down: World) -> None:
    down.fail(None)
    assert down.tries(lambda: down.store.get(KEY), Offline) == 0
    down.now += 5
    assert down.store.get(KEY).data == b"bytes"
    assert not down.offline
    assert down.store.head(KEY).size == 5


@pytest.mark.parametrize("error", [NotFound("x"), Throttled("x", status=503)])
def test_any_answer_ends_it(down: World, error: StoreError) -> None:
    down.fail(error)
    down.now += 5
    assert down.tries(lambda: down.store.get(Key("none")), type(error)) >= 1
    assert not down.offline


@pytest.mark.parametrize("error", [KeyRefused("no UTF-8"), RequestRejected("by the client")])
def test_what_is_refused_without_asking_is_no_answer(down: World, error: StoreError) -> None:
    down.fail(error)
    assert down.tries(lambda: down.store.put(Key("odd"), b""), type(error)) == 1
    assert down.offline
    down.now += 5
    assert down.tries(lambda: down.store.get(Key("odd")), type(error)) == 1
    assert down.offline


def test_a_write_tries_for_its_whole_budget_and_ends_it(down: World) -> None:
    assert down.tries(lambda: down.store.put(KEY, b"new"), Unreachable) > 2
    assert down.offline
    down.fail(None)
    down.store.put(KEY, b"new")
    assert not down.offline
    assert down.store.get(KEY).data == b"new"


@pytest.mark.parametrize(
    "error",
    [Unavailable("cut off"), Unavailable("bad gateway", status=502), Unavailable("x", status=503)],
)
def test_silence_is_confirmed_by_a_listing(world: World, error: StoreError) -> None:
    world.fail(error)
    assert world.tries(lambda: world.store.get(KEY), Offline) > 2
    assert world.faulty.calls[-1].verb == "list_page"
    assert world.offline


def test_one_object_that_never_answers_is_no_outage(world: World) -> None:
    """Its copies are all broken: the server fails, or cuts it short, each time."""
    world.fail(Unavailable("cut off"), verb="get")
    assert world.tries(lambda: world.store.get(KEY), Unavailable) > 2
    assert not world.offline
    assert world.store.head(KEY).size == 5


@pytest.mark.parametrize("error", [Throttled("slower", status=503), Unavailable("x", status=500)])
def test_a_server_that_answers_is_not_offline(world: World, error: StoreError) -> None:
    world.fail(error)
    for read in world.reads():
        assert world.tries(read, type(error)) > 2
    assert not world.offline


def test_while_others_are_answered_there_is_no_outage(world: World) -> None:
    """A read that saw nothing but refusals, while another thread was answered."""

    class Busy(FaultyStore):
        def head(self, key: Key) -> ObjectMeta:
            world.outage.answered()
            raise REFUSED

    store = OutageStore(Busy(MemoryStore()), world.outage, once=world.faulty)
    with pytest.raises(Unreachable):
        store.head(KEY)
    assert not world.offline


def test_retries_under_way_end_when_it_is_known(world: World) -> None:
    world.fail(Unavailable("timed out"))
    world.outage.unanswered("somebody else found out")
    world.now += 5
    assert world.tries(lambda: world.store.get(KEY), Offline) == 2  # the listing confirms it


def test_who_polls_a_broken_object_does_not_keep_the_bucket_offline(down: World) -> None:
    down.fail(Unavailable("its copies are broken", status=503), verb="get")
    down.now += 5
    assert down.tries(lambda: down.store.get(KEY), Unavailable) >= 1
    assert not down.offline
    assert down.store.head(KEY).size == 5


def test_a_look_that_hangs_holds_nobody_up_and_ends_the_outage_when_it_is_answered() -> None:
    class Hanging(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.answers = threading.Event()

        def head(self, key: Key) -> ObjectMeta:
            self.answers.wait(60)
            return super().head(key)

    hanging = Hanging()
    hanging.put(KEY, b"bytes")
    outage = Outage(0.0)
    outage.unanswered("silent for a minute")
    store = OutageStore(hanging, outage, once=hanging)
    with pytest.raises(Offline):
        store.head(KEY)
    assert outage.silence is not None
    hanging.answers.set()
    wait_until(lambda: outage.silence is None, "the look to be answered")
    assert store.head(KEY).size == 5


@pytest.mark.parametrize(
    ("error", "silent"),
    [
        (Unavailable("no byte"), True),
        (Unreachable("refused"), True),
        (Unavailable("gateway", status=504), True),
        (Unavailable("failed", status=500), False),
        (Throttled("slower", status=503), False),
        (NotFound("none", status=404), False),
    ],
)
def test_what_is_silence(error: StoreError, silent: bool) -> None:
    assert is_silence(error) is silent
