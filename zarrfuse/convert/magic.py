"""What a file is, by its bytes and never by its name; and whether it is all there.

Pure but for reading the file it is given. The NetCDF libraries are asked only afterwards.
"""

from __future__ import annotations

import os
from enum import Enum
from typing import BinaryIO

from zarrfuse.convert.classic import check_whole
from zarrfuse.errors import NotNetCDF

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HDF4 = b"\x0e\x03\x13\x01"
#: First bytes that say what it is instead, for a message that helps.
_OTHERS = {
    b"\x1f\x8b": "it is compressed with gzip; gunzip it first",
    b"BZh": "it is compressed with bzip2; unpack it first",
    b"PK\x03\x04": "it is a zip archive",
    b"GRIB": "it is GRIB",
    b"<!DOCTYPE": "it is a web page: the download probably failed",
    b"<html": "it is a web page: the download probably failed",
    b"CDF": "it is a NetCDF variant that is not supported",
}


class Format(Enum):
    """The two families of NetCDF files."""

    CLASSIC = "classic"
    HDF5 = "hdf5"


def recognise(stream: BinaryIO) -> Format:
    """What `stream` holds, whole. NotNetCDF says in words what is wrong with it."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    start = stream.read(16)
    if not start:
        raise NotNetCDF("the file is empty")
    if start[:3] == b"CDF" and start[3:4] in (b"\x01", b"\x02", b"\x05"):
        stream.seek(0)
        check_whole(stream, size)
        return Format.CLASSIC
    if start[:4] == _HDF4:
        raise NotNetCDF("it is HDF4, which is not supported; convert it to NetCDF-4 first")
    base = _hdf5_base(stream, size)
    if base is None:
        raise NotNetCDF(_what_else(start))
    _check_hdf5_end(stream, base, size)
    return Format.HDF5


def _hdf5_base(stream: BinaryIO, size: int) -> int | None:
    """Where the HDF5 signature stands: at 0, or after a user block of 512, 1024, ... bytes."""
    offset = 0
    while offset < size:
        stream.seek(offset)
        if stream.read(len(_HDF5)) == _HDF5:
            return offset
        offset = offset * 2 or 512
    return None


def _check_hdf5_end(stream: BinaryIO, base: int, size: int) -> None:
    """The superblock states where the file ends (HDF5 file format specification, II.A)."""
    stream.seek(base)
    block = stream.read(64)
    version = block[8] if len(block) > 8 else -1
    match version:
        case 0 | 1:
            width, at = block[13] if len(block) > 13 else 0, 24 + 4 * version
        case 2 | 3:
            width, at = block[9] if len(block) > 9 else 0, 12
        case _:
            raise NotNetCDF("damaged: its HDF5 superblock cannot be read")
    if width not in (2, 4, 8) or len(block) < at + 3 * width:
        raise NotNetCDF("damaged: its HDF5 superblock cannot be read")
    stated_base = int.from_bytes(block[at : at + width], "little")
    # Addresses count from the file's start as it was when they were written; a user block may
    # have been put before it since.
    end = int.from_bytes(block[at + 2 * width : at + 3 * width], "little") + base - stated_base
    if size < end:
        raise NotNetCDF(f"truncated: its superblock promises {end} bytes, it has {size}")


def _what_else(start: bytes) -> str:
    for head, what in _OTHERS.items():
        if start.startswith(head):
            return f"not a NetCDF file: {what}"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return "not a NetCDF file: it is text"
    return "not a NetCDF file: neither classic NetCDF nor HDF5"
