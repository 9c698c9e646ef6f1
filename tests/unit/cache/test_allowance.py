"""Room booked ahead: what is drawn and booked agrees with the row, whatever happens to the row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from random import Random

import pytest

from zarrfuse.cache.allowance import Allowance
from zarrfuse.cache.rows import SCHEMA, Row, Rows

AHEAD = 1000
FRESH_NS = 100


class Clock:
    now = 10**6

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def rows() -> Iterator[Rows]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
        yield Rows(connection)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def allowance(clock: Clock) -> Allowance:
    return Allowance(AHEAD, clock_ns=clock, fresh_ns=FRESH_NS)


def plenty(size: int) -> int:
    return size


def nothing(size: int) -> int:
    return 0


def booked(rows: Rows) -> int:
    return rows.usage().reserved_bytes


def test_draws_from_what_is_booked_until_it_is_spent(allowance: Allowance, rows: Rows) -> None:
    assert not allowance.draw(1)
    assert allowance.book(rows, 300, plenty)
    assert booked(rows) == AHEAD
    assert allowance.draw(700)
    assert not allowance.draw(1)
    allowance.put_back(700)
    assert allowance.draw(1)


def test_takes_what_there_is_room_for(allowance: Allowance, rows: Rows) -> None:
    assert allowance.book(rows, 300, lambda size: 400)
    assert booked(rows) == 400
    assert not allowance.book(rows, 300, lambda size: 150)  # 100 are there, 200 are needed
    assert booked(rows) == 400
    assert allowance.draw(100)


def test_more_than_is_ever_booked_ahead_is_booked_for_itself(
    allowance: Allowance, rows: Rows
) -> None:
    assert allowance.book(rows, 5 * AHEAD, plenty)
    assert booked(rows) == 5 * AHEAD


def test_what_is_spent_is_booked_no_more(allowance: Allowance, rows: Rows) -> None:
    assert allowance.book(rows, 300, plenty)
    assert allowance.spend(rows, 300, nothing)
    allowance.put_back(300)
    assert booked(rows) == AHEAD - 300
    assert not allowance.draw(AHEAD - 299)
    assert allowance.draw(AHEAD - 300)


def test_an_old_booking_is_refreshed_before_it_is_relied_on(
    allowance: Allowance, rows: Rows, clock: Clock
) -> None:
    assert allowance.book(rows, 300, plenty)
    clock.now += FRESH_NS
    assert not allowance.draw(100)
    assert allowance.book(rows, 100, nothing)
    assert [row.used_ns for row in rows.oldest(9, stale_before_ns=2**62)] == [clock.now]
    assert booked(rows) == AHEAD
    assert allowance.draw(600)


def test_a_lost_booking_is_made_again_for_all_that_is_drawn(
    allowance: Allowance, rows: Rows
) -> None:
    assert allowance.book(rows, 300, plenty)
    assert allowance.draw(AHEAD - 300)
    _evict_all(rows)
    assert not allowance.book(rows, 100, lambda size: AHEAD)
    assert allowance.book(rows, 100, lambda size: AHEAD + 100)
    assert booked(rows) == AHEAD + 100
    assert allowance.spend(rows, AHEAD + 100, nothing)
    assert booked(rows) == 0


def test_a_block_whose_booking_is_lost_needs_other_room(allowance: Allowance, rows: Rows) -> None:
    assert allowance.book(rows, 300, plenty)
    _evict_all(rows)
    assert not allowance.spend(rows, 300, nothing)
    assert allowance.spend(rows, 300, plenty)


def test_after_a_failed_transaction_nothing_is_believed(allowance: Allowance, rows: Rows) -> None:
    assert allowance.book(rows, 300, plenty)
    allowance.forget()
    allowance.put_back(300)
    assert not allowance.draw(1)
    assert allowance.book(rows, 10, lambda size: 10)
    assert booked(rows) == AHEAD + 10  # the old one goes when it is stale


def test_an_error_draws_nothing(allowance: Allowance, rows: Rows) -> None:
    def refused(size: int) -> int:
        raise OSError(13, "Permission denied")

    with pytest.raises(OSError, match="denied"):
        allowance.book(rows, 300, refused)
    assert allowance.book(rows, AHEAD, plenty)
    assert booked(rows) == AHEAD


def test_release_leaves_no_row(allowance: Allowance, rows: Rows) -> None:
    assert allowance.book(rows, 300, plenty)
    allowance.release(rows)
    assert rows.usage().total_bytes == 0
    assert not allowance.draw(1)


@pytest.mark.parametrize("seed", range(10))
def test_what_is_on_its_way_is_always_booked(rows: Rows, clock: Clock, seed: int) -> None:
    """Random orders, with a limit, stored blocks and an eviction of the booking now and then."""
    allowance, random = Allowance(AHEAD, clock_ns=clock, fresh_ns=FRESH_NS), Random(seed)
    limit, drawn = 5 * AHEAD, [0]

    def room(size: int) -> int:
        return max(0, min(size, limit - rows.usage().total_bytes))

    for step in range(300):
        clock.now += random.randrange(40)
        size = random.randrange(1, 400)
        if allowance.draw(size) or allowance.book(rows, size, room):
            drawn.append(size)
            assert booked(rows) >= sum(drawn)
        if len(drawn) > 1 and random.random() < 0.6:
            done = drawn.pop()
            if random.random() < 0.7 and allowance.spend(rows, done, room):
                rows.add([Row(b"%d" % step, done, 1, None)])
            allowance.put_back(done)
        if random.random() < 0.1:  # stale, and evicted by another process
            clock.now += FRESH_NS
            _evict_all(rows)
        assert rows.usage().total_bytes <= limit


def _evict_all(rows: Rows) -> None:
    for row in rows.oldest(1000, stale_before_ns=2**62):
        rows.remove(row.name)
