"""Orders over a grid: text ranks against sorting, walks against sorted indices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.readers import dask_order, row_major
from zarrfuse.core.orders import Order, Scale, ranks_of, scales_of, text_rank, text_value


@given(st.integers(1, 3000))
def test_text_ranks_are_those_of_sorting(count: int) -> None:
    by_text = sorted(range(count), key=str)
    assert [text_rank(value, count) for value in by_text] == list(range(count))
    assert [text_value(rank, count) for rank in range(count)] == by_text


@given(st.data(), st.integers(1, 2**62))
def test_text_ranks_of_large_axes(data: st.DataObject, count: int) -> None:
    value = data.draw(st.integers(0, count - 1))
    other = data.draw(st.integers(0, count - 1))
    rank = text_rank(value, count)
    assert 0 <= rank < count
    assert text_value(rank, count) == value
    assert (rank < text_rank(other, count)) == (str(value) < str(other))


@pytest.mark.parametrize("shape", [(20, 4, 4), (3, 12), (101,), (2, 1, 13)])
def test_a_full_walk_down_by_text_is_dasks(shape: tuple[int, ...]) -> None:
    scale = Scale(shape, True, len(shape) - 1)
    last = tuple(count - 1 for count in shape)
    order = Order(scale, -1, (0,) * len(shape), last, (1,) * len(shape))
    walk = [scale.index(place) for place in (last, *order.walk(last))]
    assert walk == dask_order(row_major(shape))


@pytest.mark.parametrize("shape", [(20, 4, 4), (3, 12), (101,), (2, 1, 13), (1, 1)])
def test_ranks_number_a_full_walk(shape: tuple[int, ...]) -> None:
    scales = scales_of(shape)
    for column in zip(*(ranks_of(scales, index) for index in row_major(shape)), strict=True):
        assert sorted(column) == list(range(len(column)))


def test_a_walk_in_strides_through_a_box() -> None:
    order = Order(Scale((9, 9), False, 1), 1, (1, 2), (5, 6), (2, 4))
    assert list(order.walk((1, 2))) == [(1, 6), (3, 2), (3, 6), (5, 2), (5, 6)]


def test_scales_without_a_choice() -> None:
    assert scales_of(()) == ()
    assert scales_of((1, 1)) == ()
    assert len(scales_of((5,))) == 1
    assert len(scales_of((20, 1))) == 2
