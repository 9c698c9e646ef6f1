"""How ranges become blocks, against a byte-by-byte oracle."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrfuse.core.blocks import Block, BlockLayout, Pieces, runs

layouts = st.builds(BlockLayout, st.integers(1, 20), st.integers(0, 40))


@given(layouts, st.integers(0, 120), st.integers(-5, 130), st.integers(-5, 130))
def test_blocks_cover_exactly_what_is_touched(
    layout: BlockLayout, size: int, start: int, stop: int
) -> None:
    whole = size <= layout.whole_bytes
    unit = size if whole else layout.block_bytes
    touched = sorted({at // unit for at in range(size) if start <= at < stop}) if unit else []
    expected = tuple(Block(n * unit, min((n + 1) * unit, size)) for n in touched)
    assert layout.covering(size, start, stop) == expected


@given(layouts, st.integers(1, 120), st.data())
def test_a_block_does_not_depend_on_who_asks(
    layout: BlockLayout, size: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    everything = layout.covering(size, 0, size)
    assert set(layout.covering(size, start, stop)) <= set(everything)
    assert sum(block.size for block in everything) == size
    assert all(left.stop == right.start for left, right in pairwise(everything))


def test_edges() -> None:
    layout = BlockLayout(block_bytes=4, whole_bytes=8)
    assert layout.covering(0, 0, 10) == ()
    assert layout.covering(8, 3, 4) == (Block(0, 8),)
    assert layout.covering(9, 3, 4) == (Block(0, 4),)
    assert layout.covering(9, 4, 9) == (Block(4, 8), Block(8, 9))
    assert layout.covering(9, 9, 12) == ()


def test_a_block_has_at_least_one_byte() -> None:
    with pytest.raises(ValueError, match="0 bytes"):
        BlockLayout(block_bytes=0, whole_bytes=8)


@given(st.sets(st.integers(0, 30)), st.integers(1, 40))
def test_runs_are_gapless_bounded_and_complete(numbers: set[int], bound: int) -> None:
    blocks = [Block(n * 4, n * 4 + 4) for n in sorted(numbers)]
    groups = runs(blocks, bound)
    assert [block for group in groups for block in group] == blocks
    for group in groups:
        assert all(left.stop == right.start for left, right in pairwise(group))
        assert len(group) == 1 or group[-1].stop - group[0].start <= bound
    for left, right in pairwise(groups):
        joined = right[0].stop - left[0].start
        assert left[-1].stop < right[0].start or joined > bound


@given(st.integers(1, 9), st.integers(0, 50), st.integers(1, 60), st.data())
def test_pieces_cover_what_is_touched_of_their_block(
    step: int, begin: int, length: int, data: st.DataObject
) -> None:
    block, pieces = Block(begin, begin + length), Pieces(step)
    start = data.draw(st.integers(begin - 5, begin + length - 1))
    stop = data.draw(st.integers(max(start, begin) + 1, begin + length + 5))
    touched = [pieces.piece(block, number) for number in pieces.touched(block, start, stop)]
    wanted = range(max(start, block.start), min(stop, block.stop))
    assert {at for piece in touched for at in range(*piece)} >= set(wanted)
    assert all(piece.start in wanted or wanted.start in range(*piece) for piece in touched)
    everything = [pieces.piece(block, number) for number in range(-(-length // step))]
    assert set(touched) <= set(everything)
    assert [at for piece in everything for at in range(*piece)] == list(range(*block))


def test_a_block_of_few_pieces_is_not_cut() -> None:
    assert Pieces(10).count(Block(100, 140)) == 1
    assert Pieces(10).count(Block(100, 141)) == 5
    with pytest.raises(ValueError, match="0 bytes"):
        Pieces(0)
