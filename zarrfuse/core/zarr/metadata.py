"""Array metadata to chunk grid: which chunks an array has, and how its objects are named.

Pure, and fed with objects that anybody may have written: what is malformed, too large or unknown is
None or left out, never an exception. From the Zarr specifications v2 and v3; loads no Zarr library.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from zarrfuse.core.keys import is_file_name, is_key_text

#: Larger documents are not parsed: 20 000 arrays with their attributes stay below.
MAX_DOCUMENT_BYTES = 16 << 20
#: A consolidated document may describe as many arrays as that; the rest is left out.
MAX_ARRAYS = 20_000
#: numpy's own limit.
MAX_RANK = 64
#: Lengths are 64-bit and signed in every implementation.
MAX_LENGTH = 2**63 - 1

#: An index entry of a shard: offset and length, 8 bytes each; the usual chain adds a crc32c.
_INDEX_ENTRY_BYTES = 16
_CHECKSUM_BYTES = 4

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChunkEncoding:
    """How a chunk index becomes a key below its array: `c/1/2` with `prefix`, else `1.2`."""

    separator: Literal[".", "/"]
    prefix: Literal["", "c"]
    version: Literal[2, 3]


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """What lies inside one object of a sharded array.

    `inner` is the shape of an inner chunk, `count` how many a shard holds; `index_bytes` is None
    where the index has no size that could be known without decoding it.
    """

    inner: Shape
    count: int
    index_at_end: bool
    index_bytes: int | None


@dataclass(frozen=True, slots=True)
class ArrayGrid:
    """The grid of an array's objects: its chunks, or its shards where it is sharded.

    `sharding` is None where objects have no index that could be read by range.
    """

    shape: Shape
    chunks: Shape
    encoding: ChunkEncoding
    sharding: ShardLayout | None = None
    #: Number of chunks along each axis.
    grid_shape: Shape = field(init=False)

    def __post_init__(self) -> None:
        counts = tuple(
            -(-length // chunk) if length else 0
            for length, chunk in zip(self.shape, self.chunks, strict=True)
        )
        object.__setattr__(self, "grid_shape", counts)

    @property
    def count(self) -> int:
        """Number of chunks; 1 for a scalar, 0 where an axis is empty."""
        return math.prod(self.grid_shape)


def parse_array(name: str, document: bytes) -> ArrayGrid | None:
    """The grid of the array that an object of this name (`.zarray`, `zarr.json`) describes."""
    return _array(name, _parsed(document))


def parse_consolidated(document: bytes) -> dict[str, ArrayGrid]:
    """Every array of a `.zmetadata` or a root `zarr.json`, by its path below the root.

    Empty for anything else; arrays that cannot be understood are left out.
    """
    parsed = _parsed(document)
    if not isinstance(parsed, dict):
        return {}
    if parsed.get("zarr_consolidated_format") == 1:
        return _arrays_v2(parsed.get("metadata"))
    consolidated = parsed.get("consolidated_metadata")
    if parsed.get("zarr_format") != 3 or not isinstance(consolidated, dict):
        return {}
    if consolidated.get("kind", "inline") != "inline":
        return {}
    return _arrays_v3(consolidated.get("metadata"))


def shard_index_range(layout: ShardLayout, object_size: int) -> tuple[int, int] | None:
    """The half-open byte range of the index of a shard; None if unknown, or the shard too short."""
    size = layout.index_bytes
    if size is None or size > object_size:
        return None
    return (object_size - size, object_size) if layout.index_at_end else (0, size)


def _parsed(document: bytes) -> object:
    if len(document) > MAX_DOCUMENT_BYTES:
        return None
    try:
        return json.loads(document)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, absurd numbers; absurd depth
        return None


def _arrays_v2(metadata: object) -> dict[str, ArrayGrid]:
    found: dict[str, ArrayGrid] = {}
    for key, value in metadata.items() if isinstance(metadata, dict) else ():
        path, _, name = key.rpartition("/")
        if name == ".zarray":
            _add(found, path, _array(name, value))
    return found


def _arrays_v3(metadata: object) -> dict[str, ArrayGrid]:
    found: dict[str, ArrayGrid] = {}
    for path, value in metadata.items() if isinstance(metadata, dict) else ():
        _add(found, path, _array("zarr.json", value))
    return found


def _add(found: dict[str, ArrayGrid], path: str, grid: ArrayGrid | None) -> None:
    if grid is None or len(found) == MAX_ARRAYS:
        return
    if not path or (is_key_text(path) and all(map(is_file_name, path.split("/")))):
        found[path] = grid


def _array(name: str, node: object) -> ArrayGrid | None:
    if not isinstance(node, dict):
        return None
    match name:
        case ".zarray":
            return _array_v2(node)
        case "zarr.json":
            return _array_v3(node)
    return None


def _array_v2(node: Mapping[str, object]) -> ArrayGrid | None:
    cut = _cut(node.get("shape"), node.get("chunks"))
    separator = _separator(node.get("dimension_separator", "."))
    if node.get("zarr_format") != 2 or separator is None or cut is None:
        return None
    return ArrayGrid(*cut, ChunkEncoding(separator, "", 2))


def _array_v3(node: Mapping[str, object]) -> ArrayGrid | None:
    if node.get("zarr_format") != 3 or node.get("node_type") != "array":
        return None
    if node.get("storage_transformers"):
        return None  # they may store anything anywhere
    kind, configuration = _extension(node.get("chunk_grid"))
    cut = _cut(node.get("shape"), configuration.get("chunk_shape"))
    encoding = _encoding_v3(node.get("chunk_key_encoding"))
    codecs = node.get("codecs")
    if kind != "regular" or cut is None or encoding is None:
        return None
    if not isinstance(codecs, list) or not codecs:
        return None
    sharding = None
    if _extension(codecs[0])[0] == "sharding_indexed":
        sharding = _sharding(codecs[0], cut[1])
        if sharding is None:
            return None
        if len(codecs) > 1:  # compressed as a whole: no range of it means anything
            sharding = None
    return ArrayGrid(*cut, encoding, sharding)


def _encoding_v3(value: object) -> ChunkEncoding | None:
    kind, configuration = _extension(value)
    match kind:
        case "default":
            separator = _separator(configuration.get("separator", "/"))
            return None if separator is None else ChunkEncoding(separator, "c", 3)
        case "v2":
            separator = _separator(configuration.get("separator", "."))
            return None if separator is None else ChunkEncoding(separator, "", 3)
    return None


def _sharding(codec: object, shard: Shape) -> ShardLayout | None:
    """None where the configuration is malformed."""
    _, configuration = _extension(codec)
    inner = _lengths(configuration.get("chunk_shape"))
    location = configuration.get("index_location", "end")
    if inner is None or len(inner) != len(shard) or location not in ("start", "end"):
        return None
    if any(part < 1 or whole % part for part, whole in zip(inner, shard, strict=True)):
        return None
    count = math.prod(whole // part for part, whole in zip(inner, shard, strict=True))
    return ShardLayout(inner, count, location == "end", _index_bytes(configuration, count))


def _index_bytes(configuration: Mapping[str, object], count: int) -> int | None:
    codecs = configuration.get("index_codecs")
    if not isinstance(codecs, list):
        return None
    if any(_extension(codec)[1].get("endian") == "big" for codec in codecs):
        return None
    match [_extension(codec)[0] for codec in codecs]:
        case ["bytes", "crc32c"]:
            return _INDEX_ENTRY_BYTES * count + _CHECKSUM_BYTES
        case ["bytes"]:
            return _INDEX_ENTRY_BYTES * count
    return None


def _extension(value: object) -> tuple[str, Mapping[str, object]]:
    """Name and configuration of a v3 extension point; ("", {}) for anything else."""
    if isinstance(value, str):  # the short form, for one that needs no configuration
        return value, {}
    if not isinstance(value, dict):
        return "", {}
    name, configuration = value.get("name"), value.get("configuration", {})
    if not isinstance(name, str) or not isinstance(configuration, dict):
        return "", {}
    return name, configuration


def _separator(value: object) -> Literal[".", "/"] | None:
    if value == ".":
        return "."
    return "/" if value == "/" else None


def _lengths(value: object) -> Shape | None:
    if not isinstance(value, list) or len(value) > MAX_RANK:
        return None
    for length in value:
        if type(length) is not int or not 0 <= length <= MAX_LENGTH:  # a bool is an int
            return None
    return tuple(value)


def _cut(shape: object, chunks: object) -> tuple[Shape, Shape] | None:
    """Shape and chunk shape, if they fit; a chunk of length 0 can cut only an empty axis."""
    lengths, steps = _lengths(shape), _lengths(chunks)
    if lengths is None or steps is None or len(lengths) != len(steps):
        return None
    fits = all(step or not length for length, step in zip(lengths, steps, strict=True))
    return (lengths, steps) if fits else None
