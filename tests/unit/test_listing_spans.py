"""Known stretches of a sorted name space, against a set of positions as the oracle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zarrfuse.listing.spans import Span, Spans, just_before

POSITIONS = [f"{n:02}" for n in range(20)]
BOUNDS = ["", *POSITIONS]


@st.composite
def pages(draw: st.DrawFn) -> Span:
    after = draw(st.sampled_from(BOUNDS[:-1]))
    last = draw(st.sampled_from([*[p for p in POSITIONS if p > after], None]))
    return Span(after, last, float(draw(st.integers(0, 9))))


@given(st.lists(pages(), max_size=12), st.integers(0, 9))
def test_knows_what_the_newest_page_over_a_position_told(told: list[Span], since: int) -> None:
    spans = Spans()
    newest: dict[str, float] = {}
    for page in told:
        spans.add(page)
        newest.update({p: page.at for p in POSITIONS if page.holds(p)})
    for position in POSITIONS:
        assert spans.knows(position, since) == (newest.get(position, -1) >= since)


@given(st.lists(pages(), max_size=12), st.integers(0, 9))
def test_filling_the_gaps_ends_with_everything_known(told: list[Span], since: int) -> None:
    spans = Spans()
    for page in told:
        spans.add(page)
    asked = 0
    while (after := spans.gap(since)) is not None:
        asked += 1
        assert asked <= len(POSITIONS) + 1
        following = [p for p in POSITIONS if p > after]
        spans.add(Span(after, following[2] if len(following) > 2 else None, float(since)))
    assert all(spans.knows(position, since) for position in [*POSITIONS, "99"])


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_just_before_lies_before_and_includes_the_position(position: str) -> None:
    before = just_before(position)
    assert before.encode() < position.encode()
    assert Span(before, None, 0.0).holds(position)


def test_just_before_does_not_step_into_the_surrogates() -> None:
    assert just_before("a\ue000").encode() < "a\ue000".encode()
