"""What a NetCDF file says of itself: groups, dimensions, variables, attributes. Frozen, exact.

Knows no library. Values of attributes are kept as the bytes that the file has, so that two
descriptions are equal exactly when nothing was lost between them, NaN payloads included.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Text:
    """NC_CHAR: bytes in no stated encoding, with whatever NULs the writer put in."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Strings:
    """NC_STRING: any number of strings."""

    values: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Values of one little-endian numpy type, such as "<i2"."""

    dtype: str
    raw: bytes

    @property
    def array(self) -> np.ndarray:
        return np.frombuffer(self.raw, self.dtype)


@dataclass(frozen=True, slots=True)
class Records:
    """Values of a compound type, packed; fields as numpy describes them."""

    fields: tuple[tuple[str, str], ...]
    raw: bytes


Value = Text | Strings | Numbers | Records


@dataclass(frozen=True, slots=True)
class Attribute:
    name: str
    value: Value


@dataclass(frozen=True, slots=True)
class Dimension:
    name: str
    size: int
    unlimited: bool


@dataclass(frozen=True, slots=True)
class Plain:
    """Numbers, or single characters ("|S1"); the byte order is the file's."""

    dtype: str


@dataclass(frozen=True, slots=True)
class VlenText:
    """Strings of any length."""


@dataclass(frozen=True, slots=True)
class Enumeration:
    """Integers with names."""

    dtype: str
    name: str
    members: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Compound:
    """Records of plain fields; `fields` are (name, dtype), packed."""

    name: str
    fields: tuple[tuple[str, str], ...]


DataType = Plain | VlenText | Enumeration | Compound


@dataclass(frozen=True, slots=True)
class Variable:
    """`dimensions` are full paths, such as "/ocean/depth"; `hdf5_chunks` None if contiguous."""

    name: str
    type: DataType
    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    hdf5_chunks: tuple[int, ...] | None
    attributes: tuple[Attribute, ...]

    @property
    def is_coordinate(self) -> bool:
        """One-dimensional, and named as its dimension."""
        return len(self.dimensions) == 1 and self.dimensions[0].rpartition("/")[2] == self.name

    @property
    def item_bytes(self) -> int:
        return numpy_type(self.type).itemsize

    @property
    def raw_bytes(self) -> int:
        return math.prod(self.shape) * self.item_bytes


@dataclass(frozen=True, slots=True)
class Group:
    """`path` is "" for the root, else "a/b": as the keys of the store begin."""

    path: str
    dimensions: tuple[Dimension, ...]
    variables: tuple[Variable, ...]
    attributes: tuple[Attribute, ...]
    groups: tuple[Group, ...]

    def key(self, name: str) -> str:
        """The path of a member."""
        return f"{self.path}/{name}" if self.path else name

    def walk(self) -> Iterator[Group]:
        """Itself, then all groups below, parents first, in the file's order."""
        yield self
        for group in self.groups:
            yield from group.walk()

    def all_variables(self) -> Iterator[tuple[str, Variable]]:
        """Every variable below, with its path."""
        for group in self.walk():
            for variable in group.variables:
                yield group.key(variable.name), variable


def numpy_type(kind: DataType) -> np.dtype:
    """How a value of this type lies in memory before it is encoded; strings are objects."""
    match kind:
        case Plain(dtype) | Enumeration(dtype):
            return np.dtype(dtype)
        case VlenText():
            return np.dtype(object)
        case Compound(_, fields):
            return np.dtype(list(fields))
