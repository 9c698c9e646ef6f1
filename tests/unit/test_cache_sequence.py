"""Reading ahead in one large file."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrfuse.cache.sequence import KIB, MIB, Large, Ways, fell_short, read_on

MAX = 64 * MIB
Plan = tuple[int, int]


def walk(reads: list[Plan], size: int = 1000 * MIB) -> list[Plan]:
    """What is fetched ahead for these reads, in order."""
    ways: Ways = ()
    plans = []
    for start, stop in reads:
        ways, plan = read_on(ways, start, stop, Large(size, MIB, MAX))
        if plan is not None:
            plans.append(plan)
    return plans


def steps(start: int, stop: int, step: int) -> list[Plan]:
    return [(at, min(at + step, stop)) for at in range(start, stop, step)]


@pytest.mark.parametrize("length", [4 * KIB, 128 * KIB, MIB])
def test_a_first_read_and_jumps_fetch_nothing(length: int) -> None:
    chosen = random.Random(1)
    assert (
        walk([(n * 10 * MIB, n * 10 * MIB + length) for n in chosen.sample(range(100), 100)]) == []
    )


def test_a_random_reader_is_rarely_taken_for_one_that_goes_on() -> None:
    chosen = random.Random(2)
    starts = [chosen.randrange(0, 999 * MIB) for _ in range(1000)]
    plans = walk([(start, start + 128 * KIB) for start in starts])
    assert sum(stop - start for start, stop in plans) <= 0.2 * 1000 * 128 * KIB


def test_a_header_and_its_tables_drag_nothing_along() -> None:
    """As libhdf5 opens a file: some bytes here, some more there, some beside each other."""
    reads = [(0, 8), (0, 512), (512, 1024), (96, 4192), (4192, 20_000), (800 * MIB, 801 * MIB)]
    reads += [(40 * MIB + at, 40 * MIB + at + 4096) for at in range(0, 400 * KIB, 4096)]
    assert walk(reads) == []


def test_opening_a_file_with_libnetcdf_drags_little_along() -> None:
    """It reads 4 MiB, of which the kernel makes 5136 kB (seen on a mount), and then jumps."""
    reads = [(0, 16 * KIB), *steps(16 * KIB, 5136 * KIB, MIB), (13160 * KIB, 13164 * KIB)]
    assert max(stop for _, stop in walk(reads)) <= 7 * MIB + 16 * KIB


def test_at_most_half_is_for_nothing() -> None:
    for mib in range(6, 200, 7):
        reads = steps(300 * MIB, (300 + mib) * MIB, MIB)
        assert max(stop for _, stop in walk(reads)) <= (300 + 2 * mib) * MIB


@settings(max_examples=50)
@given(
    st.sampled_from([16 * KIB, 128 * KIB, MIB, 3 * MIB]),
    st.integers(0, 30 * MIB),
    st.integers(20, 200),
)
def test_reading_on_fetches_everything_once_and_never_too_far(
    step: int, begin: int, mib: int
) -> None:
    size = begin + mib * MIB + 17
    large = Large(size, MIB, MAX)
    ways: Ways = ()
    covered: int | None = None
    for start, stop in steps(begin, size, step):
        ways, plan = read_on(ways, start, stop, large)
        if plan is not None:
            assert plan[0] % MIB == 0
            assert plan[1] % MIB == 0 or plan[1] == size
            if covered is None:
                assert stop - MIB < plan[0] <= stop
                assert stop - begin <= max(512 * KIB, 2 * step)
            else:
                assert plan[0] == max(covered, stop // MIB * MIB)
            covered = plan[1]
            assert plan[0] < covered <= stop + MAX
        assert covered is None or covered > stop or stop == size
    assert covered == size


def test_the_window_grows_to_its_limit() -> None:
    plans = walk(steps(0, 600 * MIB, MIB))
    lengths = [stop - start for start, stop in plans]
    assert sum(lengths[:2]) <= 8 * MIB
    assert max(lengths) <= MAX
    assert len(plans) < 100


def test_requests_of_the_kernel_out_of_order_are_one_way() -> None:
    order = [0, 1, 3, 2, 4, 6, 5, 7, 9, 8, 10, 11]
    assert walk([(n * 128 * KIB, (n + 1) * 128 * KIB) for n in order])
    assert walk([(n * MIB, (n + 1) * MIB) for n in order])


def test_several_readers_of_one_file_are_followed_at_once() -> None:
    starts = [n * 100 * MIB for n in range(4)]
    ways = [steps(start, start + 40 * MIB, 128 * KIB) for start in starts]
    mixed = [read for turn in zip(*ways, strict=True) for read in turn]
    plans = walk(mixed)
    for start in starts:
        mine = [plan for plan in plans if start <= plan[0] < start + 100 * MIB]
        assert mine[0][0] == start
        assert mine[-1][1] >= start + 40 * MIB


def test_small_requests_of_two_windows_of_the_kernel_are_one_way() -> None:
    """libfuse 2 asks for 128 kB at a time, sixteen at once, by ten threads."""
    chosen, ways, covered = random.Random(3), (), 0
    reads = steps(0, 200 * MIB, 128 * KIB)
    large = Large(1000 * MIB, MIB, MAX)
    for begin in range(0, len(reads), 16):
        window = reads[begin : begin + 16]
        for start, stop in chosen.sample(window, len(window)):
            ways, plan = read_on(ways, start, stop, large)
            assert not plan or not covered or plan[0] == covered, "nothing twice, nothing left out"
            covered = plan[1] if plan else covered
    assert len(ways) == 1
    assert covered > 200 * MIB


def test_what_found_no_room_is_asked_for_again() -> None:
    ways: Ways = ()
    large = Large(1000 * MIB, MIB, MAX)
    reads = iter(steps(0, 400 * MIB, MIB))
    plan = None
    while plan is None or plan[1] < 100 * MIB:
        ways, plan = read_on(ways, *next(reads), large)
    ways = fell_short(ways, plan, plan[0] + 4 * MIB)
    again = None
    while again is None:
        ways, again = read_on(ways, *next(reads), large)
    assert again[0] == plan[0] + 4 * MIB
