"""Pages asked for side by side: everything becomes known, whatever was guessed, at a fair price."""

from __future__ import annotations

import itertools
import random
from bisect import bisect_right
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrfuse.core.keys import ETag, Key, ObjectMeta, Prefix
from zarrfuse.core.zarr.keys import key_of
from zarrfuse.core.zarr.metadata import ArrayGrid, ChunkEncoding
from zarrfuse.core.zarr.splits import splits_of
from zarrfuse.listing.space import Space, Told
from zarrfuse.listing.sweep import Sweep

HERE = Prefix("here/")
ROW = ObjectMeta(Key("k"), 1, ETag("0" * 32), 0)
AT_ONCE = 8


def sweep(
    names: Sequence[str],
    *,
    page_rows: int = 1000,
    places: Sequence[str] | None = None,
    part: tuple[str, str | None] = ("", None),
    max_pages: int | None = None,
    seed: int = 0,
) -> tuple[Space, int, int]:
    """What is known afterwards, and in how many pages and rounds of requests."""
    names = sorted(names)
    space = Space(HERE, flat=True)
    plan = Sweep(*part, at_once=AT_ONCE, places=places, max_pages=max_pages)
    shuffle = random.Random(seed).shuffle
    pages = rounds = 0
    while starts := plan.starts(lambda after, stop: space.gap(after, stop, 0.0)):
        assert len(starts) <= AT_ONCE
        rounds += 1
        shuffle(starts)  # answers come in any order
        for after in starts:
            pages += 1
            assert pages < 10 * len(names) / page_rows + 40, "it never ends"
            first = bisect_right(names, after)
            told = names[first : first + page_rows]
            last = told[-1] if first + page_rows < len(names) else None
            useful = bool(told) and space.gap(after, told[0], 0.0) is not None
            space.merge(Told(after, last, 0.0, [(name, ROW) for name in told]))
            plan.answered(after, told, useful=useful)
    return space, pages, rounds


def known(space: Space, part: tuple[str, str | None] = ("", None)) -> list[str]:
    assert space.gap(*part, 0.0) is None
    return [position for rows in space.pieces(*part) for position in rows.positions]


KEYS = st.lists(
    st.one_of(
        st.text("./09aé", min_size=1, max_size=6),
        st.from_regex(r"\A[0-9]{1,4}\Z"),
        st.from_regex(r"\Ac/[0-9]{1,2}/[0-9]{1,2}\Z"),
    ),
    unique=True,
    max_size=120,
)


@settings(max_examples=300)
@given(
    KEYS,
    st.integers(1, 7),
    st.one_of(st.none(), st.lists(st.text("c/.09", min_size=1, max_size=4), unique=True)),
    st.integers(0, 9),
)
def test_no_guess_leaves_anything_out(
    names: list[str], page_rows: int, places: list[str] | None, seed: int
) -> None:
    cuts = None if places is None else sorted(places)
    space, _, _ = sweep(names, page_rows=page_rows, places=cuts, seed=seed)
    assert known(space) == sorted(names)


@given(KEYS, st.integers(1, 7), st.tuples(st.sampled_from(["", "c/", "3"]), st.just("c/9")))
def test_a_part_is_known_and_no_more_is_asked_for_than_reaches_it(
    names: list[str], page_rows: int, part: tuple[str, str]
) -> None:
    space, _, _ = sweep(names, page_rows=page_rows, part=part)
    assert known(space, part) == [name for name in sorted(names) if part[0] < name <= part[1]]


GRID = (50, 100, 10)


@pytest.mark.parametrize(
    "encoding", [ChunkEncoding(".", "", 2), ChunkEncoding("/", "", 2), ChunkEncoding("/", "c", 3)]
)
def test_with_a_grid_the_pages_are_those_of_the_serial_way(encoding: ChunkEncoding) -> None:
    grid = ArrayGrid(GRID, (1, 1, 1), encoding)
    names = [key_of(grid, index) for index in itertools.product(*map(range, GRID))]
    names += [".zarray", ".zattrs", "zarr.json"]
    space, pages, rounds = sweep(names, places=splits_of(grid, 1000))
    assert known(space) == sorted(names)
    assert pages <= 51 * 1.1
    assert rounds <= 51 / AT_ONCE + 3


def test_with_a_grid_and_few_of_its_chunks_too() -> None:
    grid = ArrayGrid(GRID, (1, 1, 1), ChunkEncoding("/", "c", 3))
    names = [key_of(grid, index) for index in itertools.product(*map(range, GRID))]
    some = random.Random(1).sample(names, 20_000)
    space, pages, _ = sweep(some, places=splits_of(grid, 1000))
    assert known(space) == sorted(some)
    assert pages <= 20 + AT_ONCE


@pytest.mark.parametrize(
    "form", ["{0:05}", "n-{0:07}", "{0}", "file_{0}.nc", "{1}.{2}", "c/{1}/{2}", "dir{1:04}/f{2}"]
)
def test_without_a_grid_it_takes_a_third_of_the_time(form: str) -> None:
    names = [form.format(n, n // 50, n % 50) for n in range(50_000)]
    space, pages, rounds = sweep(names)
    assert known(space) == sorted(names)
    assert pages <= 50 * 1.3
    assert rounds <= 17


def test_names_without_any_order_cost_little_more_than_one_after_the_other() -> None:
    random_names = [f"{random.Random(n).getrandbits(64):016x}" for n in range(20_000)]
    space, pages, _ = sweep(random_names)
    assert known(space) == sorted(random_names)
    assert pages <= 20 * 1.6


def test_a_small_directory_costs_one_page() -> None:
    assert sweep([f"{n}" for n in range(900)])[1] == 1


@pytest.mark.parametrize("places", [None, [f"{n:05}" for n in range(999, 50_000, 1000)]])
def test_no_more_pages_than_allowed(places: list[str] | None) -> None:
    names = [f"{n:05}" for n in range(50_000)]
    space, pages, _ = sweep(names, places=places, max_pages=16)
    assert pages == 16
    assert space.rows >= 12_000


@given(
    st.lists(st.integers(1, 8), max_size=4),  # up to 4096 places: more than 5000 are not made
    st.sampled_from([("/", "c", 3), (".", "", 2), ("/", "", 2), (".", "c", 3)]),
    st.integers(1, 50),
)
def test_splits_lie_that_many_keys_apart(
    counts: list[int], encoding: tuple[str, str, int], every: int
) -> None:
    grid = ArrayGrid(tuple(counts), (1,) * len(counts), ChunkEncoding(*encoding))  # type: ignore[arg-type]
    keys = sorted(key_of(grid, index) for index in itertools.product(*map(range, counts)))
    assert splits_of(grid, every) == keys[every - 1 : -1 : every]


def test_a_boundless_grid_has_no_splits() -> None:
    assert splits_of(ArrayGrid((2**62,), (1,), ChunkEncoding("/", "c", 3)), 1000) is None
