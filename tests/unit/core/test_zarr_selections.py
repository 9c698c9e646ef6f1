"""What is guessed of a selection inside a shard, and what wrong guesses may cost."""

import itertools
import random

import pytest

from zarrfuse.core.zarr.selections import CREDIT, CREDIT_PER_READ, MORE_IF_SURE, Selections
from zarrfuse.core.zarr.shards import InnerGrid

Index = tuple[int, ...]
GRID = InnerGrid((96, 8, 8), (16, 4, 4))


def follow(
    selections: list[list[Index]], grid: InnerGrid = GRID, *, absent: frozenset[Index] = frozenset()
) -> tuple[int, set[Index], set[Index]]:
    """Reads each selection in no order: how many were planned before they were read, all that was
    planned, all that was read."""
    watched, rng = Selections(grid), random.Random(2)
    hits, planned, read = 0, set[Index](), set[Index]()
    for selection in selections:
        known, done = set[Index](), set[Index]()
        for index in rng.sample(selection, len(selection)):
            shard, _ = grid.place(index)
            hits += index in planned
            read.add(index)
            plan = watched.read(
                index, 64, begins=shard not in known, exists=lambda at: at not in absent
            )
            known.add(shard)
            done.add(index)
            assert len(plan) <= 64 and not done & set(plan)
            assert all(grid.place(at)[0] == shard for at in plan)
            planned.update(plan)
    return hits, planned, read


def box(*axes: range) -> list[Index]:
    return list(itertools.product(*axes))


def test_a_series_is_taken_to_go_through_the_whole_shard() -> None:
    hits, planned, read = follow([box(range(16), range(2, 3), range(1, 2))])
    assert hits >= 12
    assert planned <= read


def test_the_same_selection_of_the_next_shards_is_known_at_once() -> None:
    hits, planned, read = follow([box(range(96), range(2, 3), range(1, 2))])
    assert hits >= 70
    assert planned <= read
    series = [box(range(16), range(y, y + 1), range(x, x + 1)) for y in range(4) for x in range(4)]
    hits, planned, read = follow(series)
    assert hits >= len(read) - 4 - 15


def test_rows_at_random() -> None:
    rows = [
        box(range(t, t + 1), range(4), range(4)) for t in random.Random(3).sample(range(96), 40)
    ]
    hits, planned, read = follow(rows)
    assert hits >= 0.9 * len(read)
    assert planned <= read


def test_a_box_in_a_shard() -> None:
    hits, planned, read = follow([box(range(2, 14), range(1, 4), range(1, 4))])
    assert hits >= 0.4 * len(read)
    assert planned <= read


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("per_shard", [(16, 4, 4), (16, 1, 1), (2, 2, 2)])
def test_a_random_reader_pays_for_few_guesses(per_shard: Index, seed: int) -> None:
    rng, grid = random.Random(seed), InnerGrid((96, 8, 8), per_shard)
    points = [[tuple(rng.randrange(n) for n in grid.shape)] for _ in range(400)]
    for selections in (points, [[point for (point,) in points]]):
        _, planned, read = follow(selections, grid)
        assert len(planned - read) <= CREDIT + CREDIT_PER_READ * 400


def test_what_is_lost_is_bounded_also_where_chance_seemed_excluded() -> None:
    """Parts of rows: each shows the beginning of something, and none goes on."""
    rng = random.Random(4)
    parts = [rng.sample(box(range(t, t + 1), range(4), range(4)), 5) for t in range(96)]
    _, planned, read = follow(parts)
    assert len(planned - read) <= CREDIT + MORE_IF_SURE + 0.2 * len(read)


def test_what_is_absent_is_not_planned() -> None:
    absent = frozenset(box(range(8), range(4), range(4)))
    _, planned, _ = follow([box(range(8, 16), range(2, 3), range(1, 2))], absent=absent)
    assert planned and not planned & absent
