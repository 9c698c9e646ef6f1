"""The queue to the disk: what waits is found, nothing is lost at the end, and it is bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from structlog.testing import capture_logs

from tests.support.cache_fakes import block_id
from zarrfuse.cache.write_behind import Waiting, WriteBehind

DEADLINE_S = 30


def waiting(number: int, size: int = 100) -> Waiting:
    block = block_id(number, size)
    return Waiting(block, block.name, bytes(size), 4096, number)


class Disk:
    """Remembers what is written; `gate` holds the writers up while it is closed."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.batches: list[list[int]] = []
        self.tidied = threading.Event()

    def write(self, batch: Sequence[Waiting]) -> None:
        self.begun.set()
        assert self.gate.wait(DEADLINE_S)
        self.batches.append([one.used_ns for one in batch])

    @property
    def written(self) -> list[int]:
        return sorted(number for batch in self.batches for number in batch)


def behind(disk: Disk, max_bytes: int = 10**6) -> WriteBehind:
    return WriteBehind(disk.write, disk.tidied.set, max_bytes=max_bytes)


def in_thread(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def test_what_waits_and_what_is_being_written_is_found() -> None:
    disk = Disk()
    queue = behind(disk)
    assert queue.put(waiting(1))
    assert queue.find(block_id(1, 100)) == bytes(100)
    assert disk.begun.wait(DEADLINE_S)
    assert queue.put(waiting(2))
    assert all(queue.holds(block_id(number, 100)) for number in (1, 2))
    assert queue.find(block_id(3, 100)) is None
    disk.gate.set()
    queue.close()
    assert disk.written == [1, 2]
    assert queue.find(block_id(1, 100)) is None


def test_an_empty_block_is_found_too() -> None:
    disk = Disk()
    queue = behind(disk)
    assert queue.put(waiting(1, 0))
    assert queue.find(block_id(1, 0)) == b""
    disk.gate.set()
    queue.close()


def test_a_block_on_its_way_is_not_taken_twice() -> None:
    disk = Disk()
    queue = behind(disk)
    assert queue.put(waiting(1))
    assert disk.begun.wait(DEADLINE_S)
    assert not queue.put(waiting(1))
    disk.gate.set()
    queue.close()
    assert disk.written == [1]


def test_many_small_ones_are_written_together() -> None:
    disk = Disk()
    disk.gate.set()
    queue = behind(disk)
    for number in range(50):
        queue.put(waiting(number))
    queue.close()
    assert disk.written == list(range(50))
    assert len(disk.batches) < 25


def test_who_finds_it_full_writes_too() -> None:
    disk = Disk()
    queue = behind(disk, max_bytes=250)
    queue.put(waiting(1))
    assert disk.begun.wait(DEADLINE_S)  # the thread has it, and hangs
    queue.put(waiting(2))
    full = in_thread(lambda: queue.put(waiting(3)))
    full.join(0.2)
    assert full.is_alive()
    disk.gate.set()
    full.join(DEADLINE_S)
    assert {2, 3} <= set(disk.written)
    queue.close()


def test_drain_waits_for_what_another_thread_writes() -> None:
    disk = Disk()
    queue = behind(disk)
    assert not queue.drain()
    queue.put(waiting(1))
    assert disk.begun.wait(DEADLINE_S)
    drained: list[bool] = []
    drain = in_thread(lambda: drained.append(queue.drain()))
    drain.join(0.2)
    assert drain.is_alive()
    disk.gate.set()
    drain.join(DEADLINE_S)
    assert drained == [True]
    assert disk.written == [1]
    queue.close()


def test_nothing_is_taken_after_the_end() -> None:
    disk = Disk()
    disk.gate.set()
    queue = behind(disk)
    queue.close()
    assert not queue.put(waiting(1))
    assert not queue.drain()


def test_a_defect_is_logged_and_the_next_batch_is_written() -> None:
    written: list[int] = []

    def write(batch: Sequence[Waiting]) -> None:
        if batch[0].used_ns == 1:
            raise ZeroDivisionError
        written.extend(one.used_ns for one in batch)

    queue = WriteBehind(write, lambda: None)
    with capture_logs() as logs:
        queue.put(waiting(1))
        queue.drain()
        queue.put(waiting(2))
        queue.close()
    assert [line["log_level"] for line in logs] == ["error"]
    assert written == [2]


def test_the_thread_tidies_when_woken() -> None:
    disk = Disk()
    queue = behind(disk)
    queue.wake()
    assert disk.tidied.wait(DEADLINE_S)
    queue.close()


def test_nothing_is_lost_between_many_threads() -> None:
    disk = Disk()
    disk.gate.set()
    queue = behind(disk, max_bytes=500)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda number: queue.put(waiting(number)), range(400), timeout=60))
        pool.submit(queue.drain).result(DEADLINE_S)
    queue.close()
    assert all(taken)
    assert disk.written == list(range(400))
