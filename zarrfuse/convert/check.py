"""The metadata, read back: a description made from the very bytes, to compare with the source's.

The inverse of metadata.py, and the last gate before publication: what was lost or bent on the way
to JSON shows as a difference that is named. Pure.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from zarrfuse.convert.attributes import CHAR, Document, Encoded, decode_attributes
from zarrfuse.convert.frames import StoreObject
from zarrfuse.convert.metadata import FILL, NCZ_ARRAY, NCZ_GROUP, PRIVATE, RESERVED, TYPES
from zarrfuse.convert.model import (
    Compound,
    DataType,
    Dimension,
    Enumeration,
    Group,
    Numbers,
    Plain,
    Text,
    Value,
    Variable,
    VlenText,
)
from zarrfuse.errors import ConversionError


def check_metadata(root: Group, objects: Iterable[StoreObject]) -> None:
    """ConversionError where the objects do not say exactly what the source says."""
    docs = {item.key: json.loads(item.data) for item in objects}
    consolidated = docs.pop(".zmetadata")["metadata"]
    if json.dumps(consolidated, sort_keys=True) != json.dumps(docs, sort_keys=True):
        raise ConversionError("the consolidated metadata differs from the metadata")
    found = describe(docs, "")
    for mine, theirs in zip(root.walk(), found.walk(), strict=True):
        _compare(mine, theirs)
    if found != root:
        raise ConversionError("the metadata read back has other groups than the source")


def describe(docs: Mapping[str, Any], path: str) -> Group:
    """The group at `path`, and all below it, as its documents tell."""
    start = f"{path}/" if path else ""
    attributes = docs[f"{start}.zattrs"]
    layout = attributes[NCZ_GROUP]
    return Group(
        path,
        tuple(_dimension(name, size) for name, size in layout["dimensions"].items()),
        tuple(_variable(docs, f"{start}{name}", name) for name in layout["arrays"]),
        decode_attributes(_encoded(attributes, RESERVED), {}),
        tuple(describe(docs, f"{start}{name}") for name in layout["groups"]),
    )


def _compare(source: Group, found: Group) -> None:
    where = f"group {source.path!r}" if source.path else "the file"
    if (source.attributes, source.dimensions) != (found.attributes, found.dimensions):
        raise ConversionError(f"the attributes or dimensions of {where} changed on the way")
    for mine, theirs in zip(source.variables, found.variables, strict=True):
        if mine != theirs:
            raise ConversionError(f"the metadata of {source.key(mine.name)!r} changed on the way")


def _dimension(name: str, size: int | Document) -> Dimension:
    if isinstance(size, dict):
        return Dimension(name, size["size"], bool(size["unlimited"]))
    return Dimension(name, size, False)


def _variable(docs: Mapping[str, Any], path: str, name: str) -> Variable:
    array, attributes = docs[f"{path}/.zarray"], docs[f"{path}/.zattrs"]
    private = attributes.get(PRIVATE, {})
    chunks = private.get("hdf5_chunks")
    own = RESERVED | set(private.get("added", ()))
    return Variable(
        name,
        _type(array["dtype"], private),
        tuple(attributes[NCZ_ARRAY]["dimension_references"]),
        tuple(array["shape"]),
        None if chunks is None else tuple(chunks),
        decode_attributes(_encoded(attributes, own), _moved(array, attributes)),
    )


def _encoded(attributes: Document, own: frozenset[str]) -> Encoded:
    shown = {name: value for name, value in attributes.items() if name not in own}
    types = {name: kind for name, kind in attributes[TYPES]["types"].items() if name not in own}
    unknown = set(shown) - set(types)
    if unknown:
        raise ConversionError(f"attribute {min(unknown)!r} came from nowhere")
    return Encoded(shown, types, attributes.get(PRIVATE, {}).get("raw", {}))


def _moved(array: Document, attributes: Document) -> dict[str, Value]:
    """The fill value, which stands in `.zarray`."""
    if array["fill_value"] is None:
        return {}
    kind = attributes[TYPES]["types"][FILL]
    if kind == CHAR:
        return {FILL: Text(base64.b64decode(array["fill_value"]))}
    return {FILL: Numbers(kind, np.array([array["fill_value"]], kind).tobytes())}


def _type(dtype: str | list[list[str]], private: Document) -> DataType:
    if not isinstance(dtype, str):
        return Compound(private["compound"], tuple((name, kind) for name, kind in dtype))
    if dtype == "|O":
        return VlenText()
    if "enum" in private:
        enum = private["enum"]
        return Enumeration(dtype, enum["name"], tuple(enum["members"].items()))
    return Plain(dtype)
