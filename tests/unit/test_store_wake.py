"""After a jump of the clock: new connections, once, before the next request."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from zarrfuse.core.keys import Key
from zarrfuse.store.memory import MemoryStore
from zarrfuse.store.wake import WakingStore, clock_offset_s

KEY = Key("k")


class World:
    def __init__(self) -> None:
        self.offset_s = 500.0
        self.renewed = 0
        self.store = WakingStore(MemoryStore(), self.renew, lambda: self.offset_s)
        self.store.put(KEY, b"x")

    def renew(self) -> None:
        threading.Event().wait(0.01)
        self.renewed += 1


@pytest.mark.parametrize("jump_s", [31.0, -31.0, 30_000.0])
def test_a_jump_renews_once(jump_s: float) -> None:
    world = World()
    world.offset_s += jump_s
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda _: world.store.head(KEY).size, range(20)))
    assert sizes == [1] * 20
    assert world.renewed == 1
    world.offset_s += jump_s
    world.store.head(KEY)
    assert world.renewed == 2


def test_a_small_step_renews_nothing() -> None:
    world = World()
    for step_s in (29.0, -29.0):
        world.offset_s = 500.0 + step_s
        world.store.head(KEY)
    assert world.renewed == 0


def test_the_clocks_of_this_machine_agree() -> None:
    assert abs(clock_offset_s() - clock_offset_s()) < 30
