"""Reading ahead in one large file."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from zarrfuse.cache.sequence import MIB, Sequence, read_on

SIZE = 1000 * MIB
MAX = 64 * MIB


def walk(reads: list[tuple[int, int]], size: int = SIZE) -> list[tuple[int, int]]:
    """What is fetched ahead for these reads, in order."""
    state: Sequence | None = None
    plans = []
    for start, stop in reads:
        state, plan = read_on(state, start, stop, size, MAX)
        if plan is not None:
            plans.append(plan)
    return plans


def test_a_first_read_and_jumps_fetch_nothing() -> None:
    chosen = random.Random(1)
    jumps = [(n * 10 * MIB, n * 10 * MIB + 4096) for n in chosen.sample(range(100), 100)]
    assert walk(jumps) == []


@given(st.sampled_from([4096, 131072, MIB, 3 * MIB]), st.integers(20, 200))
def test_reading_on_fetches_everything_once_and_never_too_far(step: int, mib: int) -> None:
    size = mib * MIB
    state: Sequence | None = None
    covered = step
    for start in range(0, size, step):
        stop = min(start + step, size)
        state, plan = read_on(state, start, stop, size, MAX)
        if plan is not None:
            assert plan[0] >= covered or plan[0] == stop
            assert plan[0] < plan[1] <= min(size, stop + MAX)
            covered = plan[1]
    assert covered == size


def test_the_window_grows_to_its_limit() -> None:
    plans = walk([(n * MIB, (n + 1) * MIB) for n in range(600)])
    lengths = [stop - start for start, stop in plans]
    assert lengths[0] <= 4 * MIB
    assert max(lengths) <= MAX and max(lengths) >= MAX // 4
    assert len(plans) < 60


def test_pieces_out_of_order_are_one_sequence() -> None:
    order = [0, 1, 3, 2, 4, 6, 5, 7, 9, 8, 10, 11]
    assert walk([(n * 131072, (n + 1) * 131072) for n in order])
