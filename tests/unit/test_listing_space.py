"""A name space: what it knows after any pages and changes, against a plain dict as the oracle."""

from __future__ import annotations

from bisect import bisect_right

from hypothesis import given, settings
from hypothesis import strategies as st

from zarrfuse.core.keys import ETag, Key, ObjectMeta, Prefix
from zarrfuse.listing.memory import Area, Memory
from zarrfuse.listing.positions import end_of, just_before
from zarrfuse.listing.rows import Row, Rows, entries_of
from zarrfuse.listing.space import Space, Told

HERE = Prefix("here/")
ETAGS = ["0" * 32, "00ff" * 8, "00FF" * 8, "abc-2", "", "é" * 32]


def meta(position: str, etag: str = "12" * 16, size: int = 1) -> ObjectMeta:
    return ObjectMeta(Key(HERE + position), size, ETag(etag), 10**18 + size)


@given(
    st.dictionaries(
        st.text("ab0/é", min_size=1, max_size=5),
        st.one_of(st.none(), st.tuples(st.sampled_from(ETAGS), st.integers(0, 2**40))),
        max_size=12,
    ),
    st.lists(st.tuples(st.text("ab0é", min_size=1, max_size=3), st.sampled_from([*ETAGS, None]))),
)
def test_rows_come_out_as_they_went_in(
    given_rows: dict[str, tuple[str, int] | None], changes: list[tuple[str, str | None]]
) -> None:
    oracle: dict[str, Row] = {
        position: Prefix(HERE + position) if known is None else meta(position, *known)
        for position, known in given_rows.items()
    }
    rows = Rows.of(sorted(oracle.items()))
    for position, etag in changes:
        if etag is None:
            oracle.pop(position, None)
            rows.remove(position)
        else:
            oracle[position] = meta(position, etag)
            rows.set(position, oracle[position])
    found = {position: rows.row(HERE, n) for n, position in enumerate(rows.positions)}
    assert found == oracle
    assert rows.positions == sorted(oracle)
    for n, position in enumerate(rows.positions):
        assert rows.same(n, oracle[position])
        assert not rows.same(n, meta(position, "another"))
        assert type(found[position]) is type(oracle[position])


NAMES = st.sampled_from(["a", "a-", "a/1", "a/2", "a/b/1", "a0", "b", "b/1", "c", "d/1"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("page"), st.sampled_from(["", "a", "a-", "a/1", "a0", "b", "c", "z"])),
        st.tuples(st.sampled_from(["put", "delete", "own put", "own delete", "forget"]), NAMES),
        st.tuples(st.just("wait"), st.just("")),
    ),
    max_size=25,
)


class World:
    """A bucket of names, a space that is told of it page by page, and what it should know."""

    def __init__(self, page_rows: int, *, flat: bool) -> None:
        self.names: dict[str, ObjectMeta] = {}
        self.space = Space(HERE, flat=flat)
        self.flat = flat
        self.page_rows = page_rows
        self.now = 0.0
        self.versions = 0

    def positions(self) -> list[str]:
        if self.flat:
            return sorted(self.names)
        rolled = {name.partition("/")[0] + "/" for name in self.names if "/" in name}
        return sorted(rolled | {name for name in self.names if "/" not in name})

    def page(self, after: str) -> Told:
        positions = self.positions()
        first = bisect_right(positions, after)
        part = positions[first : first + self.page_rows]
        rows: list[tuple[str, Row]] = [
            (p, Prefix(HERE + p) if p.endswith("/") else self.names[p]) for p in part
        ]
        more = first + self.page_rows < len(positions)
        return Told(after, part[-1] if more else None, self.now, rows)

    def do(self, action: str, name: str) -> None:
        self.versions += 1
        row = meta(name, f"{self.versions:032}", self.versions)
        match action:
            case "page":
                self.space.merge(self.page(name))
            case "wait":
                self.now += 1
            case "put":
                self.names[name] = row
            case "delete":
                self.names.pop(name, None)
            case "own put" if self.flat or "/" not in name:
                self.names[name] = row
                self.space.set(name, row)
            case "own delete" if self.flat or "/" not in name:
                self.names.pop(name, None)
                self.space.remove(name)
            case "forget":
                self.space.doubt(name)


@settings(max_examples=300)
@given(STEPS, st.integers(1, 4), st.booleans())
def test_what_is_missing_is_asked_for_in_a_few_pages_and_then_true(
    steps: list[tuple[str, str]], page_rows: int, flat: bool
) -> None:
    world = World(page_rows, flat=flat)
    for action, name in steps:
        world.do(action, name)
        assert world.space.rows == len(_all(world.space))
    world.now += 1
    for position in ("a", "a-", "a0", "b", "c", "d", "0", "zz", *(["a/b", "a/1"] if flat else [])):
        asked = 0
        while (after := world.space.missing(position, world.now)) is not None:
            world.space.merge(world.page(after))
            asked += 1
            assert asked <= len(world.names) + 2, "it never ends"
        is_directory = any(name.startswith(f"{position}/") for name in world.names)
        truth = Prefix(f"{HERE}{position}/") if is_directory else world.names.get(position)
        assert world.space.entry(position, world.now) == (True, truth)
    while (after := world.space.gap("", None, world.now)) is not None:
        world.space.merge(world.page(after))
    assert _all(world.space) == world.positions()


def _all(space: Space) -> list[str]:
    return [position for rows in space.pieces("", None) for position in rows.positions]


@given(STEPS, st.integers(1, 4))
def test_a_page_tells_what_an_earlier_one_had_told_otherwise(
    steps: list[tuple[str, str]], page_rows: int
) -> None:
    world = World(page_rows, flat=True)
    for action, name in steps:
        if action not in ("page", "own put", "own delete"):
            world.do(action, name)
            continue
        if action != "page":
            continue
        told = world.page(name)
        before = {p: world.space.entry(p, 0.0) for p in ("a0", "b", "c")}
        changed = world.space.merge(told)
        for position, (known, row) in before.items():
            covered = told.after < position and (told.last is None or position <= told.last)
            # A directory hides what is behind it: its rows are told one by one.
            if known and covered and not isinstance(row, Prefix):
                assert (position in changed) == (row != world.names.get(position))


@given(st.lists(NAMES, unique=True), st.sampled_from(["", "a/"]), st.integers(1, 4))
def test_entries_are_those_of_the_directory(names: list[str], below: str, cut: int) -> None:
    rows = [(name, meta(name)) for name in sorted(names) if name.startswith(below)]
    pieces = [Rows.of(rows[n : n + cut]) for n in range(0, len(rows), cut)]
    found, hidden = entries_of(HERE, below, pieces)
    directories = {n[len(below) :].partition("/")[0] for n, _ in rows if "/" in n[len(below) :]}
    files = {n[len(below) :] for n, _ in rows if "/" not in n[len(below) :]}
    assert {n for n, row in found.items() if isinstance(row, Prefix)} == directories
    assert {n for n, row in found.items() if isinstance(row, ObjectMeta)} == files - directories
    assert set(hidden) == files & directories


def test_own_changes_in_a_known_directory_do_not_grow_one_stretch_without_end() -> None:
    space = Space(HERE, flat=False)
    space.merge(Told("", None, 0.0, ()))
    for n in range(10_000):
        space.set(f"{n * 7919 % 10_000}", meta("x"))
    assert space.rows == 10_000
    assert max(map(len, space.pieces("", None))) <= 4000
    assert all(space.entry(f"{n}", 0.0)[1] is not None for n in range(10_000))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60)), max_size=30))
def test_memory_is_bounded_and_keeps_what_was_used_last(told: list[tuple[int, int]]) -> None:
    memory = Memory(200, lambda: 1.0)
    for place, count in told:
        area = Area(Prefix(f"{place}/"), flat=False)
        rows = [(f"{n:03}", meta(f"{n:03}")) for n in range(count)]
        memory.make(area).merge(Told("", None, 0.0, rows))
        memory.weigh(area)
        assert memory.keys <= 200
        space = memory.get(area)
        assert space is not None and space.rows == count


def test_of_one_huge_directory_the_stretches_not_used_are_forgotten() -> None:
    memory = Memory(500, lambda: 1.0)
    area = Area(HERE, flat=False)
    for start in range(0, 2000, 100):
        rows = [(f"{n:05}", meta(f"{n:05}")) for n in range(start, start + 100)]
        space = memory.make(area)
        if start:
            assert space.entry("00050", 0.0)[0], "what is used stays"
        space.merge(Told(f"{start - 1:05}" if start else "", f"{start + 99:05}", 0.0, rows))
        memory.weigh(area)
        assert memory.keys <= 500
    assert memory.make(area).entry("01990", 0.0)[0]
    assert not memory.make(area).entry("00500", 0.0)[0]


def test_what_is_being_collected_is_not_forgotten() -> None:
    memory = Memory(100, lambda: 1.0)
    area, other = Area(HERE, flat=False), Area(Prefix("other/"), flat=False)
    memory.pin([area])
    for here in (area, other):
        rows = [(f"{n:03}", meta(f"{n:03}")) for n in range(150)]
        memory.make(here).merge(Told("", None, 0.0, rows))
        memory.weigh(here)
    assert memory.make(area).rows == 150
    memory.unpin([area])
    assert memory.keys <= 100


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_just_before_lies_before_and_end_of_behind(position: str) -> None:
    before, behind = just_before(position), end_of(position)
    assert before.encode() < position.encode()
    assert behind is not None and (position + "\U0010fffd").encode() < behind.encode()


def test_just_before_does_not_step_into_the_surrogates() -> None:
    assert just_before("a\ue000").encode() < "a\ue000".encode()
