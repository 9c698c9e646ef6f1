"""Attribute values survive JSON bit for bit, whatever they are."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrfuse.convert.attributes import Encoded, decode_attributes, encode_attributes
from zarrfuse.convert.model import Attribute, Numbers, Records, Strings, Text, Value

DTYPES = ["|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8"]


@st.composite
def numbers(draw: st.DrawFn) -> Numbers:
    dtype = draw(st.sampled_from(DTYPES))
    width = np.dtype(dtype).itemsize
    return Numbers(dtype, draw(st.binary(max_size=5 * width).filter(lambda b: len(b) % width == 0)))


texts = st.binary(max_size=20) | st.text(max_size=20).map(str.encode)
values: st.SearchStrategy[Value] = (
    numbers()
    | texts.map(Text)
    | st.lists(texts, max_size=3).map(lambda items: Strings(tuple(items)))
    | st.binary(min_size=6, max_size=6).map(lambda b: Records((("a", "<i2"), ("b", "<f4")), b))
)
attribute_lists = st.dictionaries(st.text(min_size=1, max_size=5), values, max_size=5).map(
    lambda found: tuple(Attribute(name, value) for name, value in found.items())
)


@given(attribute_lists)
def test_they_come_back_as_they_went(attributes: tuple[Attribute, ...]) -> None:
    encoded = encode_attributes(attributes, frozenset())
    parts = [encoded.shown, encoded.types, encoded.raw]
    read = [json.loads(json.dumps(part, ensure_ascii=False).encode()) for part in parts]
    assert decode_attributes(Encoded(*read), {}) == attributes


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Text("°C".encode()), "°C"),
        (Text(b"days since 2000-1-1\0"), "days since 2000-1-1"),
        (Text(b"\xb0C"), "°C"),
        (Text(b""), ""),
        (Numbers("<i2", np.array([7], "<i2").tobytes()), 7),
        (Numbers("<f4", np.array([0.1], "<f4").tobytes()), float(np.float32(0.1))),
        (Numbers("<u8", np.array([2**64 - 1, 0], "<u8").tobytes()), [2**64 - 1, 0]),
        (Strings((b"one",)), "one"),
        (Strings((b"one", b"two")), ["one", "two"]),
    ],
)
def test_what_readers_see(value: Value, shown: object) -> None:
    encoded = encode_attributes((Attribute("a", value),), frozenset())
    assert encoded.shown["a"] == shown


def test_nan_payloads_are_kept_beside() -> None:
    bits = np.array([0x7FC00001, 0xFFFFFFFF, 0x7FC00000], "<u4").tobytes()
    attributes = (Attribute("a", Numbers("<f4", bits)),)
    encoded = encode_attributes(attributes, frozenset())
    shown = json.loads(json.dumps(encoded.shown))
    assert decode_attributes(Encoded(shown, encoded.types, encoded.raw), {}) == attributes


def test_an_empty_value_is_only_remembered() -> None:
    """netCDF-C refuses a store with an empty list in it."""
    attributes = (Attribute("a", Numbers("<i4", b"")), Attribute("b", Strings(())))
    encoded = encode_attributes(attributes, frozenset())
    assert encoded.shown == {}
    assert decode_attributes(encoded, {}) == attributes
