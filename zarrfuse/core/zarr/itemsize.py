"""Data types of Zarr metadata to bytes per element, for estimates only.

Pure. None where elements have no fixed size, or the type is not known; never an exception.
"""

from __future__ import annotations

import re

#: Nobody stores longer elements; a larger claim is no base for an estimate.
_MAX_ITEM_BYTES = 1 << 30
#: Of nested structured types.
_MAX_DEPTH = 16

#: numpy's array-protocol strings: byte order, kind, length; for times a unit follows.
_V2_TYPE = re.compile(r"[<>|=]?([?biufcmMSUV])([0-9]{0,10})(?:\[[0-9]*[A-Za-z]+\])?", re.ASCII)
_V3_RAW = re.compile(r"r([0-9]{1,10})", re.ASCII)
_V3_BYTES = {
    "bool": 1,
    **{f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": bits // 8 for bits in (16, 32, 64)},
    **{f"complex{bits}": bits // 8 for bits in (64, 128)},
    "numpy.datetime64": 8,
    "numpy.timedelta64": 8,
}


def itemsize_v2(dtype: object, depth: int = 0) -> int | None:
    """Of the `dtype` of a `.zarray`: a type string, or a list of fields."""
    if isinstance(dtype, list):
        return _fields_size(dtype, depth) if depth < _MAX_DEPTH else None
    match = _V2_TYPE.fullmatch(dtype) if isinstance(dtype, str) else None
    if match is None:
        return None
    kind, digits = match.groups()
    size = int(digits) if digits else (1 if kind in "?b" else 0)
    return _plausible(size * 4 if kind == "U" else size)


def itemsize_v3(data_type: object) -> int | None:
    """Of the `data_type` of a `zarr.json`: a name, or a name with its configuration."""
    if isinstance(data_type, str):
        raw = _V3_RAW.fullmatch(data_type)
        return _plausible(int(raw[1]) // 8) if raw else _V3_BYTES.get(data_type)
    if not isinstance(data_type, dict):
        return None
    name, configuration = data_type.get("name"), data_type.get("configuration")
    if isinstance(configuration, dict) and "length_bytes" in configuration:
        length = configuration["length_bytes"]
        return _plausible(length) if type(length) is int else None
    return _V3_BYTES.get(name) if isinstance(name, str) else None


def _fields_size(fields: list[object], depth: int) -> int | None:
    total = 0
    for one in fields:
        if not isinstance(one, list) or len(one) not in (2, 3):
            return None
        size = itemsize_v2(one[1], depth + 1)
        repeat = one[2] if len(one) == 3 else []
        for length in repeat if isinstance(repeat, list) else [repeat]:
            if size is None or type(length) is not int or not 0 < length <= _MAX_ITEM_BYTES:
                return None
            size *= length
        if size is None:
            return None
        total += size
    return _plausible(total)


def _plausible(size: int) -> int | None:
    return size if 0 < size <= _MAX_ITEM_BYTES else None
