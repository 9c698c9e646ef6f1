"""What the mount remembers of what it told the kernel: long enough, and bounded."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from zarrfuse.mount.recent import Recent

KEEP_S = 10.0


@dataclass
class Clock:
    now: float = 0.0
    said: dict[str, tuple[int, float]] = field(default_factory=dict)

    def __call__(self) -> float:
        return self.now


STEPS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9), st.floats(0, 4)))


@given(STEPS, st.integers(1, 4))
def test_what_is_forgotten_early_is_known_to_be_lost(
    steps: list[tuple[str, int, float]], most: int
) -> None:
    """For `keep_s` the latest word on each name is remembered, or `lost` says it may not be."""
    clock = Clock()
    recent = Recent(most=most, keep_s=KEEP_S, clock=clock)
    for name, what, pause_s in steps:
        recent.say(name, what)
        clock.said[name] = (what, clock.now)
        clock.now += pause_s
        for other, (value, at) in clock.said.items():
            found = recent.said(other)
            assert found in (None, hash(value)), "an elder word never comes back"
            if clock.now - at < KEEP_S:
                assert found is not None or recent.lost
        assert len(recent._young) <= most and len(recent._old) <= most


def test_without_pressure_nothing_is_lost() -> None:
    clock = Clock()
    recent = Recent(most=1000, keep_s=KEEP_S, clock=clock)
    for number in range(500):
        recent.say(f"n{number}", number)
        clock.now += 0.1
        assert not recent.lost
    assert recent.said("n499") == hash(499)
    assert recent.said("n0") is None, "its time was over long ago"


def test_the_latest_names_are_remembered_for_ever_without_a_time() -> None:
    recent = Recent(most=10)
    for number in range(100):
        recent.say(f"n{number}", number)
    assert [recent.said(f"n{n}") for n in range(90, 100)] == [hash(n) for n in range(90, 100)]
    assert not recent.lost
    recent.clear()
    assert recent.said("n99") is None
