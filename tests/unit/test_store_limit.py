"""The limit on requests in flight: how it grows and shrinks, and who goes first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from tests.support.mounts import wait_until
from zarrfuse.config import Requests
from zarrfuse.core.keys import Key, ObjectMeta
from zarrfuse.errors import NotFound, StoreError, Throttled, Unavailable
from zarrfuse.store.base import Body
from zarrfuse.store.bodies import size_of
from zarrfuse.store.limit import LimitedStore, RequestLimit, _Place, in_background
from zarrfuse.store.memory import MemoryStore

KEY = Key("a/b")
FOUR = Requests(at_once=4, at_most=8)


class World:
    """A limit, and requests that stay in flight until the test ends them."""

    def __init__(self, requests: Requests = FOUR, patience_s: float = 1000.0) -> None:
        self.limit = RequestLimit(requests, patience_s=patience_s)
        self.begun: list[str] = []
        self._ends: dict[str, threading.Event] = {}
        self._errors: dict[str, StoreError] = {}
        self._futures: dict[str, Future[None]] = {}
        self._pool = ThreadPoolExecutor(100)

    def ask(self, *names: str, background: bool = False) -> None:
        """Returns when they have a place, or wait for one."""
        for name in names:
            self._ends[name] = threading.Event()
            self._futures[name] = self._pool.submit(self._run, name, background)
            wait_until(lambda: self._seen() == len(self._futures), f"{name} to be asked")

    def end(self, *names: str, error: StoreError | None = None) -> None:
        for name in names:
            if error is not None:
                self._errors[name] = error
            self._ends[name].set()
            wait([self._futures[name]], timeout=60)
            if error is None:
                self._futures[name].result()
            else:
                assert self._futures[name].exception() is error

    def told(self, name: str) -> int:
        return self.limit.snapshot()[name]

    def close(self) -> None:
        for end in self._ends.values():
            end.set()
        self._pool.shutdown()

    def _seen(self) -> int:
        counts = self.limit.snapshot()
        ended = sum(future.done() for future in self._futures.values())
        running = sum(not future.done() for future in self._futures.values())
        return ended + min(running, counts["in_flight"] + counts["waiting"])

    def _run(self, name: str, background: bool) -> None:
        if background:
            with in_background():
                self.limit.run(lambda: self._perform(name))
        else:
            self.limit.run(lambda: self._perform(name))

    def _perform(self, name: str) -> None:
        self.begun.append(name)
        self._ends[name].wait(60)
        if name in self._errors:
            raise self._errors[name]


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Callable[..., World]:
    def maker(requests: Requests = FOUR, patience_s: float = 1000.0) -> World:
        world = World(requests, patience_s)
        request.addfinalizer(world.close)
        return world

    return maker


def test_no_more_than_so_many_at_once(make: Callable[..., World]) -> None:
    world = make(Requests(at_once=3, at_most=3))
    world.ask(*"abcde")
    assert sorted(world.begun) == list("abc")
    assert (world.told("in_flight"), world.told("waiting")) == (3, 2)
    world.end("b")
    wait_until(lambda: len(world.begun) == 4, "the next to begin")
    assert world.begun[3] == "d"  # in the order of coming
    world.end("a", "c", "d", "e")
    assert (world.told("in_flight"), world.told("waiting")) == (0, 0)


@pytest.mark.parametrize("error", [NotFound("x"), Unavailable("x"), ZeroDivisionError("x")])
def test_a_failure_gives_its_place_back(error: Exception) -> None:
    def fail() -> None:
        raise error

    limit = RequestLimit(Requests(at_once=1))
    for _ in range(3):
        with pytest.raises(type(error)):
            limit.run(fail)
    assert limit.snapshot()["in_flight"] == 0


def test_it_grows_while_others_wait_and_no_further_than_it_may(make: Callable[..., World]) -> None:
    world = make(FOUR)
    names = [f"r{n}" for n in range(30)]
    world.ask(*names)
    assert world.told("limit") == 4
    world.end(*names[:4])
    assert world.told("limit") > 4
    world.end(*names[4:])
    assert world.told("limit") == 8


def test_it_does_not_grow_when_nobody_waits(make: Callable[..., World]) -> None:
    world = make(FOUR)
    for n in range(20):
        world.ask(f"r{n}")
        world.end(f"r{n}")
    assert world.told("limit") == 4


@pytest.mark.parametrize(
    "error",
    [Throttled("x", status=429), Throttled("x", status=498), Unavailable("x", status=503)],
    ids=lambda error: str(error.status),
)
def test_it_is_halved_once_for_all_that_is_in_flight(
    make: Callable[..., World], error: StoreError
) -> None:
    world = make(Requests(at_once=16, at_most=64))
    world.ask(*(f"r{n}" for n in range(16)))
    world.end(*(f"r{n}" for n in range(10)), error=error)
    assert world.told("limit") == 8
    assert world.told("throttled") == 10
    world.ask("later")  # two places are free
    world.end("later", error=error)
    assert world.told("limit") == 4
    world.end(*(f"r{n}" for n in range(10, 16)), error=error)  # older than both halvings
    assert world.told("limit") == 4


def test_it_never_falls_below_two_and_comes_back(make: Callable[..., World]) -> None:
    world = make(FOUR)
    for n in range(9):
        world.ask(f"r{n}")
        world.end(f"r{n}", error=Throttled("x"))
    assert world.told("limit") == 2
    names = [f"s{n}" for n in range(30)]
    world.ask(*names)
    assert world.told("in_flight") == 2
    world.end(*names)
    assert world.told("limit") == 8


def test_a_failure_that_is_no_throttling_changes_nothing(make: Callable[..., World]) -> None:
    world = make(FOUR)
    world.ask(*"abcdef")
    world.end("a", "b", "c", error=Unavailable("timed out"))
    assert world.told("limit") == 4


def test_the_background_leaves_places_free(make: Callable[..., World]) -> None:
    world = make(Requests(at_once=4, at_most=4))
    world.ask(*"abcd", background=True)
    assert sorted(world.begun) == list("abc")
    world.ask("program")
    wait_until(lambda: "program" in world.begun, "the program's request")
    assert "d" not in world.begun


def test_the_background_goes_last(make: Callable[..., World]) -> None:
    world = make(Requests(at_once=2, at_most=2))
    world.ask("a", "b")
    world.ask("behind", background=True)
    world.ask("c", "d")
    world.end("a")
    world.end("b")
    wait_until(lambda: len(world.begun) == 4, "what programs wait for")
    assert "behind" not in world.begun
    world.end("c")
    wait_until(lambda: "behind" in world.begun, "the background")


def test_the_background_is_not_starved(make: Callable[..., World]) -> None:
    world = make(Requests(at_once=2, at_most=2), patience_s=0.01)
    world.ask("a", "b")
    world.ask("behind", background=True)
    wait_until(lambda: len(world.limit._waiting) == 1, "its patience to end")
    world.ask("c")
    world.end("a")
    wait_until(lambda: len(world.begun) == 3, "the next to begin")
    assert world.begun[2] == "behind"


def test_the_background_keeps_its_share_when_it_has_waited_long(make: Callable[..., World]) -> None:
    world = make(Requests(at_once=4, at_most=4), patience_s=0.01)
    names = [f"b{n}" for n in range(9)]
    world.ask(*names, background=True)
    wait_until(lambda: world.limit._waiting_background[-1].overdue, "all patience to end")
    assert world.told("in_flight") == 3
    world.ask("program")
    wait_until(lambda: "program" in world.begun, "the program's request")
    assert sorted(world.begun) == ["b0", "b1", "b2", "program"]


def test_one_of_the_background_at_a_time_is_in_line_with_programs(
    make: Callable[..., World],
) -> None:
    world = make(Requests(at_once=2, at_most=2), patience_s=0.01)
    world.ask("a", "b")
    world.ask("b0", "b1", "b2", background=True)
    waiting = world.limit._waiting_background
    wait_until(lambda: all(place.overdue for place in tuple(waiting)), "their patience to end")
    world.ask("c")
    world.end("a")
    world.end("b")
    wait_until(lambda: len(world.begun) == 4, "the next to begin")
    assert set(world.begun[2:]) == {"b0", "c"}
    world.end("c", "b0")
    wait_until(lambda: "b1" in world.begun, "the next of the background")
    assert "b2" not in world.begun  # the share of two places is one


def test_who_is_interrupted_in_the_line_leaves_it() -> None:
    limit = RequestLimit(Requests(at_once=2, at_most=2))
    place = _Place(background=True)
    with limit._lock:
        limit._in_flight = 2
        limit._waiting_background.append(place)
    limit._hurry(place)
    assert list(limit._waiting) == [place]
    limit._give_up(place)
    assert limit.snapshot()["waiting"] == 0
    assert limit._lined_up is None


def test_the_background_ends_with_its_block() -> None:
    limit = RequestLimit(Requests(at_once=4, at_most=4))

    def in_flight_of_background() -> int:
        return limit.run(lambda: limit._in_flight_background)

    with in_background():
        assert in_flight_of_background() == 1
    assert in_flight_of_background() == 0


class _Slow(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.inside, self.most, self.lock = 0, 0, threading.Lock()

    def head(self, key: Key) -> ObjectMeta:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        threading.Event().wait(0.01)
        with self.lock:
            self.inside -= 1
        return super().head(key)


def test_a_store_behind_a_limit() -> None:
    slow = _Slow()
    store = LimitedStore(slow, RequestLimit(Requests(at_once=3, at_most=3)))
    store.put(KEY, b"x")
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: store.head(KEY), range(30)))
    assert slow.most == 3


class _Asking(MemoryStore):
    """Remembers how many requests were in flight when it was asked for something."""

    def __init__(self, limit: RequestLimit) -> None:
        super().__init__()
        self.limit = limit
        self.seen: list[int] = []

    def put(self, key: Key, body: Body, *, if_absent: bool = False) -> ObjectMeta:
        self.seen.append(self.limit.snapshot()["in_flight"])
        return super().put(key, body, if_absent=if_absent)


def test_an_upload_in_parts_takes_no_place_as_a_whole() -> None:
    limit = RequestLimit(FOUR)
    asking = _Asking(limit)
    store = LimitedStore(asking, limit, in_parts=lambda key, body: size_of(body) > 3)
    store.put(KEY, b"abc")
    store.put(KEY, b"abcd", if_absent=False)
    assert asking.seen == [1, 0]
