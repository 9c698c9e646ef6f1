"""The Zarr v2 metadata of a NetCDF description: a pure function from one to JSON documents.

What Zarr's JSON cannot say exactly is kept beside: types of attributes and unlimited dimensions in
NCZarr's own attributes (current netCDF-C restores them), the rest (names of enumerations, bytes
that are not text, NaN payloads) in `_nc_zarrfuse`. xarray hides every attribute that begins "_nc".
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping

import numpy as np

from zarrfuse.convert.attributes import CHAR, JSON, Document, Encoded, encode_attributes, is_exact
from zarrfuse.convert.frames import Stage, StoreObject
from zarrfuse.convert.model import (
    Attribute,
    Compound,
    DataType,
    Enumeration,
    Group,
    Numbers,
    Plain,
    Text,
    Variable,
    VlenText,
)
from zarrfuse.convert.plan import ArrayPlan
from zarrfuse.core.keys import MAX_KEY_BYTES, is_file_name
from zarrfuse.errors import Unsupported

SOURCE = "zarrfuse:source"
PRIVATE = "_nc_zarrfuse"
DIMENSIONS = "_ARRAY_DIMENSIONS"
TYPES = "_nczarr_attr"
NCZ_ARRAY, NCZ_GROUP, NCZ_ROOT = "_nczarr_array", "_nczarr_group", "_nczarr_superblock"
FILL = "_FillValue"
#: What this module adds; a source that has such an attribute cannot be told apart from it.
RESERVED = frozenset({SOURCE, PRIVATE, DIMENSIONS, TYPES, NCZ_ARRAY, NCZ_GROUP, NCZ_ROOT})
#: Names that Zarr v2 or v3 readers look for themselves.
_ZARR_NAMES = frozenset({".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json"})
#: zstd 3 with byte shuffle: 342 MB/s a core, and the smallest of the fast ones.
COMPRESSOR = {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1, "blocksize": 0}
FLAGS = frozenset({"flag_values", "flag_meanings"})
#: What netCDF-C shall take these for: it refuses a document (JSON) under any name but its own,
#: and shows one that is declared as characters as its text.
_OWN_TYPES = {"flag_values": "<i8", "flag_meanings": CHAR, SOURCE: CHAR, PRIVATE: CHAR}

Documents = dict[str, Document]


def check_names(root: Group) -> None:
    """Unsupported for names that cannot be part of a key, or that mean something to Zarr."""
    for group in root.walk():
        names = [item.name for item in group.variables]
        names += [item.path.rpartition("/")[2] for item in group.groups]
        for name in names:
            key = f"{group.key(name)}/.zattrs"
            if name in _ZARR_NAMES or not is_file_name(name):
                raise Unsupported(f"the name {name!r} cannot be used in a Zarr store")
            if len(key.encode()) > MAX_KEY_BYTES // 2:
                raise Unsupported(f"the name {group.key(name)!r} is too long for a Zarr store")


def documents(root: Group, plans: Mapping[str, ArrayPlan], source: Document) -> Documents:
    """Every metadata document by its key, `.zmetadata` excepted; `source` is `zarrfuse:source`."""
    result: Documents = {}
    for group in root.walk():
        result[group.key(".zgroup")] = {"zarr_format": 2}
        result[group.key(".zattrs")] = _group_attributes(group, source)
        for variable in group.variables:
            path = group.key(variable.name)
            result[f"{path}/.zarray"] = _array(variable, plans[path])
            result[f"{path}/.zattrs"] = _array_attributes(variable)
    return result


def metadata_objects(root: Group, docs: Documents) -> Iterator[StoreObject]:
    """The documents as objects, in the order of publication; `.zmetadata` is the commit."""
    paths = [path for path, _ in root.all_variables()]
    arrays = [f"{path}/{name}" for path in paths for name in (".zarray", ".zattrs")]
    groups = [g.key(name) for g in root.walk() if g.path for name in (".zgroup", ".zattrs")]
    for stage, keys in (
        (Stage.ARRAY_METADATA, arrays),
        (Stage.GROUP_METADATA, groups),
        (Stage.ROOT_METADATA, [".zgroup", ".zattrs"]),
    ):
        for key in keys:
            yield StoreObject(key, stage, encode_json(docs[key]))
    consolidated = {"metadata": docs, "zarr_consolidated_format": 1}
    yield StoreObject(".zmetadata", Stage.CONSOLIDATED, encode_json(consolidated))


def encode_json(document: Document) -> bytes:
    """Raw UTF-8 (netCDF-C mangles \\u escapes), exact numbers, NaN and Infinity as tokens."""
    return json.dumps(document, ensure_ascii=False, indent=1).encode()


def fill_of(variable: Variable) -> Numbers | Text | None:
    """The `_FillValue` that can stand in `.zarray`: of the variable's type, and exact in JSON.

    One of another type stays an attribute: a cast would mask values that are valid.
    """
    if not isinstance(variable.type, Plain):
        return None
    values = [item.value for item in variable.attributes if item.name == FILL]
    match values:
        case [Text(raw) as fill] if variable.type.dtype == "|S1" and len(raw) == 1:
            return fill
        case [Numbers(dtype) as fill] if dtype[1:] == variable.type.dtype[1:]:
            return fill if len(fill.array) == 1 and is_exact(fill) else None
        case _:
            return None


def fill_value(fill: Numbers | Text | None, dtype: np.dtype) -> np.ndarray:
    """What pads chunks at the edges of the array: the fill value, else zero bits."""
    match fill:
        case None:
            return np.zeros((), dtype)
        case Text(raw):
            return np.array(raw, dtype)
        case Numbers():
            return fill.array[:1].astype(dtype).reshape(())


def zarr_dtype(kind: DataType) -> str | list[list[str]]:
    match kind:
        case Plain(dtype) | Enumeration(dtype):
            return dtype
        case VlenText():
            return "|O"
        case Compound(_, fields):
            return [list(field) for field in fields]


def _array(variable: Variable, plan: ArrayPlan) -> Document:
    fill = fill_of(variable)
    vlen = isinstance(variable.type, VlenText)
    return {
        "zarr_format": 2,
        "shape": list(variable.shape),
        "chunks": list(plan.chunks),
        "dtype": zarr_dtype(variable.type),
        "compressor": COMPRESSOR,
        "fill_value": None if fill is None else _fill_json(fill),
        "filters": [{"id": "vlen-utf8"}] if vlen else None,
        "order": "C",
        "dimension_separator": "/",
    }


def _fill_json(fill: Numbers | Text) -> float | int | str:
    if isinstance(fill, Text):
        return base64.b64encode(fill.raw).decode("ascii")
    value: float | int = fill.array[0].item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _array_attributes(variable: Variable) -> Document:
    moved = frozenset({FILL}) if fill_of(variable) is not None else frozenset[str]()
    encoded = _encoded(variable.attributes, moved)
    private: Document = {}
    flags: Document = {}
    if variable.hdf5_chunks is not None:
        private["hdf5_chunks"] = list(variable.hdf5_chunks)
    match variable.type:
        case Enumeration(_, name, members):
            private["enum"] = {"name": name, "members": dict(members)}
            if not FLAGS.intersection(encoded.types):
                private["added"] = sorted(FLAGS)
                flags = _flags(members)
        case Compound(name):
            private["compound"] = name
    own = {
        **flags,
        DIMENSIONS: [path.rpartition("/")[2] for path in variable.dimensions],
        NCZ_ARRAY: {
            "dimension_references": list(variable.dimensions),
            **({} if variable.shape else {"scalar": 1}),
            "storage": "chunked",
        },
    }
    return _assembled(encoded, private, own)


def _flags(members: tuple[tuple[str, int], ...]) -> Document:
    """The names of an enumeration as CF readers know them; the exact ones are kept beside."""
    return {
        "flag_values": [number for _, number in members],
        "flag_meanings": " ".join("_".join(label.split()) for label, _ in members),
    }


def _group_attributes(group: Group, source: Document) -> Document:
    encoded = _encoded(group.attributes, frozenset())
    own: Document = {
        NCZ_GROUP: {
            "dimensions": {
                item.name: {"size": item.size, "unlimited": 1} if item.unlimited else item.size
                for item in group.dimensions
            },
            "arrays": [item.name for item in group.variables],
            "groups": [item.path.rpartition("/")[2] for item in group.groups],
        }
    }
    if not group.path:
        own = {SOURCE: source, NCZ_ROOT: {"version": "2.0.0"}, **own}
    return _assembled(encoded, {}, own)


def _encoded(attributes: tuple[Attribute, ...], moved: frozenset[str]) -> Encoded:
    taken = RESERVED.intersection(attribute.name for attribute in attributes)
    if taken:
        raise Unsupported(f"attribute {min(taken)!r} has a meaning in Zarr stores; rename it")
    return encode_attributes(attributes, moved)


def _assembled(encoded: Encoded, private: Document, own: Document) -> Document:
    """The readable attributes, ours after them, and the types of all last."""
    if encoded.raw:
        private = {**private, "raw": encoded.raw}
    if private:
        own = {**own, PRIVATE: private}
    kinds = {**dict.fromkeys((*own, TYPES), JSON), **_OWN_TYPES}
    kinds = {**encoded.types, **{name: kinds[name] for name in (*own, TYPES)}}
    return {**encoded.shown, **own, TYPES: {"types": kinds}}
