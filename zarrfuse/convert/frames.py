"""How the worker speaks to the process that started it: frames on a pipe.

A frame is a fixed head (magic, header length, body length), a JSON header and a body. Pure; both
sides import it, so it imports nothing but the standard library. What arrives was written by a
process that parsed a hostile file: lengths are bounded, and every field is checked.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, BinaryIO

_HEAD = struct.Struct(">4sIQ")
_MAGIC = b"zfw1"
#: A header is a key (at most 1024 bytes) or a sentence.
MAX_HEADER_BYTES = 1 << 20
#: Blosc cannot encode 2 GiB; its result is at most 16 bytes longer than its input.
MAX_BODY_BYTES = (1 << 31) + 16


class Stage(IntEnum):
    """The order of publication; an object of a later stage means all before it are whole."""

    CHUNK = 0
    ARRAY_METADATA = 1
    GROUP_METADATA = 2
    ROOT_METADATA = 3
    CONSOLIDATED = 4


class ErrorKind(IntEnum):
    """Why there is no store."""

    NOT_NETCDF = 1
    UNSUPPORTED = 2
    OTHER = 3


@dataclass(frozen=True, slots=True)
class StoreObject:
    """One object of the store: its key from the store's root, and its bytes."""

    key: str
    stage: Stage
    data: bytes


@dataclass(frozen=True, slots=True)
class Progress:
    """Raw bytes of the source that are encoded and checked, of all there are."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    """The worker's own count of what it sent, and of what it read."""

    objects: int
    arrays: int
    raw_bytes: int
    encoded_bytes: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The one sentence that the file's owner reads."""

    kind: ErrorKind
    message: str


Frame = StoreObject | Progress | Done | Failed


class MalformedFrame(Exception):
    """The bytes are no frame, or the stream was cut inside one."""


def write_frame(stream: BinaryIO, frame: Frame) -> None:
    """Writes one frame, whole; the caller flushes."""
    header, body = _header_of(frame)
    text = json.dumps(header, ensure_ascii=False).encode()
    stream.write(_HEAD.pack(_MAGIC, len(text), len(body)))
    stream.write(text)
    stream.write(body)


def head_bytes() -> int:
    """How many bytes tell the length of the rest."""
    return _HEAD.size


def body_lengths(head: bytes) -> tuple[int, int]:
    """(header, body) in bytes. MalformedFrame where the head is none of ours."""
    try:
        magic, header, body = _HEAD.unpack(head)
    except struct.error as error:
        raise MalformedFrame(str(error)) from None
    if magic != _MAGIC or header > MAX_HEADER_BYTES or body > MAX_BODY_BYTES:
        raise MalformedFrame("a frame that the converter never writes")
    return header, body


def frame_of(header: bytes, body: bytes) -> Frame:
    """The frame of these bytes. MalformedFrame where a field is missing or of another type."""
    try:
        fields = json.loads(header)
        return _frame(fields, body)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedFrame(f"{type(error).__name__}: {error}") from None


def _header_of(frame: Frame) -> tuple[dict[str, Any], bytes]:
    match frame:
        case StoreObject(key, stage, data):
            return {"frame": "object", "key": key, "stage": int(stage)}, data
        case Progress(done, total):
            return {"frame": "progress", "done": done, "total": total}, b""
        case Done(objects, arrays, raw, encoded):
            counts = {"objects": objects, "arrays": arrays, "raw": raw, "encoded": encoded}
            return {"frame": "done", **counts}, b""
        case Failed(kind, message):
            return {"frame": "failed", "kind": int(kind), "message": message}, b""


def _frame(fields: dict[str, Any], body: bytes) -> Frame:
    match fields["frame"]:
        case "object":
            return StoreObject(_text(fields["key"]), Stage(fields["stage"]), body)
        case "progress":
            return Progress(_count(fields["done"]), _count(fields["total"]))
        case "done":
            names = ("objects", "arrays", "raw", "encoded")
            return Done(*(_count(fields[name]) for name in names))
        case "failed":
            return Failed(ErrorKind(fields["kind"]), _text(fields["message"]))
        case other:
            raise ValueError(f"no frame is called {other!r}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    value.encode("utf-8")  # a lone surrogate is no key and no sentence
    return value


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("not a count")
    return value
