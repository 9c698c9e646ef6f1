"""One fetch for all who ask at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from zarrfuse.cache.single_flight import SingleFlight

WAIT_S = 20


def test_the_first_brings_it_and_the_others_wait() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    with flights.claim(["a", "b"]) as first:
        assert list(first.mine) == ["a", "b"]
        with flights.claim(["b", "c"]) as second:
            assert (list(second.mine), list(second.theirs)) == (["c"], ["b"])
            second.land("c", 3)
        first.land("a", 1)
        first.land("b", 2)
    assert first.results() == {"a": 1, "b": 2}
    assert second.results() == {"b": 2, "c": 3}


def test_a_landed_key_is_fetched_anew() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    for value in (1, 2):
        with flights.claim(["a"]) as claim:
            claim.land("a", value)
        assert claim.results() == {"a": value}


def test_an_error_reaches_all_who_wait_and_nobody_later() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    with pytest.raises(OSError, match="torn"), flights.claim(["a", "b"]) as first:
        first.land("a", 1)
        with flights.claim(["a", "b"]) as second:
            second.land("a", 10)
        raise OSError("torn")
    with pytest.raises(OSError, match="torn"):
        second.results()
    with flights.claim(["b"]) as third:
        third.land("b", 2)
    assert third.results() == {"b": 2}


def test_a_forgotten_key_is_an_error_and_not_a_hang() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    with flights.claim(["a"]) as first, flights.claim(["a"]) as second:
        pass
    for claim in (first, second):
        with pytest.raises(RuntimeError, match="never landed"):
            claim.results()


def test_others_do_not_wait() -> None:
    flights: SingleFlight[str, int] = SingleFlight()

    def bring(key: str) -> int:
        with flights.claim([key]) as claim:
            claim.land(key, 1)
        return claim.results()[key]

    with ThreadPoolExecutor(1) as pool, flights.claim(["slow"]) as slow:
        assert pool.submit(bring, "quick").result(timeout=WAIT_S) == 1
        slow.land("slow", 0)


def test_claims_that_overlap_crosswise_do_not_lock_each_other() -> None:
    flights: SingleFlight[int, int] = SingleFlight()
    rounds = threading.Barrier(8)

    def work(seed: int) -> None:
        rounds.wait(timeout=WAIT_S)
        for step in range(300):
            keys = [(seed + step * 3 + n) % 7 for n in range(4)][:: 1 if seed % 2 else -1]
            with flights.claim(keys) as claim:
                for key in claim.mine:
                    claim.land(key, key * 10)
            assert claim.results() == {key: key * 10 for key in keys}

    with ThreadPoolExecutor(8) as pool:
        done: list[Future[None]] = [pool.submit(work, seed) for seed in range(8)]
        for future in done:
            future.result(timeout=WAIT_S)
