"""Attribute values as JSON, and back. Pure.

JSON shows a value to readers; its type stands beside it as NCZarr writes types; and where the JSON
would not give back the very bytes (NULs, Latin-1, NaN payloads, nothing at all) the bytes do.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarrfuse.convert.model import Attribute, Numbers, Records, Strings, Text, Value

#: Type names as NCZarr writes them: a character string, and a JSON value.
CHAR, JSON = ">S1", "|J0"

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Encoded:
    """`shown` is for readers; `types` names all, in order; `raw` has what JSON cannot say."""

    shown: Document
    types: dict[str, str]
    raw: dict[str, Document]


def encode_attributes(attributes: tuple[Attribute, ...], moved: frozenset[str]) -> Encoded:
    """All of them; those in `moved` are only named, with their type and place in the order."""
    result = Encoded({}, {}, {})
    for attribute in attributes:
        name, value = attribute.name, attribute.value
        result.types[name] = type_text(value)
        if name in moved:
            continue
        shown = show(value)
        if shown is not None:
            result.shown[name] = shown
        if not is_exact(value):
            result.raw[name] = _raw(value)
    return result


def decode_attributes(encoded: Encoded, moved: dict[str, Value]) -> tuple[Attribute, ...]:
    """What was encoded; KeyError where something is missing."""
    found = []
    for name, kind in encoded.types.items():
        if name in moved:
            value = moved[name]
        elif name in encoded.raw:
            value = _from_raw(encoded.raw[name], kind)
        else:
            value = _from_shown(encoded.shown[name], kind)
        found.append(Attribute(name, value))
    return tuple(found)


def type_text(value: Value) -> str:
    match value:
        case Text():
            return CHAR
        case Strings(values):
            return f"|S{max([1, *map(len, values)])}"
        case Numbers(dtype):
            return dtype
        case Records():
            return JSON


def show(value: Value) -> Any:
    """What readers are shown; None where there is nothing that they could show."""
    match value:
        case Text(raw):
            return _readable(raw)
        case Strings(values):
            texts = [_readable(item) for item in values]
            return texts[0] if len(texts) == 1 else texts or None
        case Numbers():
            numbers = value.array.tolist()
            return numbers[0] if len(numbers) == 1 else numbers or None
        case Records():
            return None


def is_exact(value: Value) -> bool:
    """Whether what is shown, taken back from JSON's text, gives the very bytes."""
    shown = show(value)
    if shown is None:
        return False
    # Through the text: a NaN in memory still has the payload that the token NaN has not.
    return _from_shown(json.loads(json.dumps(shown)), type_text(value)) == value


def _readable(raw: bytes) -> str:
    """As programs show it: without the NULs that C writers leave; UTF-8, else Latin-1."""
    shown = raw.rstrip(b"\0")
    try:
        return shown.decode()
    except UnicodeDecodeError:
        return shown.decode("latin-1")


def _from_shown(shown: Any, kind: str) -> Value:
    values = shown if isinstance(shown, list) else [shown]
    if kind == CHAR:
        return Text(shown.encode())
    if kind.startswith("|S"):
        return Strings(tuple(text.encode() for text in values))
    return Numbers(kind, np.array(values, kind).tobytes())


def _raw(value: Value) -> Document:
    match value:
        case Text(raw) | Numbers(_, raw):
            return {"base64": _base64(raw)}
        case Strings(values):
            return {"strings": [_base64(item) for item in values]}
        case Records(fields, raw):
            return {"fields": [list(field) for field in fields], "base64": _base64(raw)}


def _from_raw(document: Document, kind: str) -> Value:
    if "strings" in document:
        return Strings(tuple(base64.b64decode(item) for item in document["strings"]))
    raw = base64.b64decode(document["base64"])
    if "fields" in document:
        return Records(tuple((name, dtype) for name, dtype in document["fields"]), raw)
    return Text(raw) if kind == CHAR else Numbers(kind, raw)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
