"""The header of a classic NetCDF file (CDF-1, CDF-2, CDF-5): how long must the file be?

Pure. libnetcdf reads zeros past the end of a cut-off classic file, so the length that the header
promises is computed here and compared with the real one. Grammar: netcdf-c,
docs/file_format_specifications.md; CDF-5: the PnetCDF project's description of its format.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import BinaryIO

from zarrfuse.errors import NotNetCDF

_DIMENSION, _VARIABLE, _ATTRIBUTE = 0x0A, 0x0B, 0x0C
#: Bytes of one value, by nc_type: byte char short int float double; CDF-5: ubyte ... uint64.
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
#: No header names more things than this; a damaged count must not become a long loop.
_MAX_ITEMS = 1 << 20
_MAX_RANK = 1024


@dataclass(frozen=True, slots=True)
class _Extent:
    """Where one variable's values lie; `slab_bytes` are those of one record, if it has records."""

    begin: int
    slab_bytes: int
    is_record: bool


@dataclass(frozen=True, slots=True)
class ClassicHeader:
    """`needed_bytes` is the shortest whole file; padding after the last value is not needed."""

    version: int
    records: int
    needed_bytes: int


class _Reader:
    """Reads big-endian fields; a field past the end of the file means that it was cut off."""

    def __init__(self, stream: BinaryIO, file_bytes: int) -> None:
        self._stream = stream
        self._file_bytes = file_bytes
        self.wide = False

    def skip(self, count: int) -> None:
        if self._stream.tell() + count > self._file_bytes:
            raise NotNetCDF("truncated: the file ends inside its header")
        self._stream.seek(count, 1)

    def take(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise NotNetCDF("truncated: the file ends inside its header")
        return data

    def u32(self) -> int:
        return int(struct.unpack(">I", self.take(4))[0])

    def count(self) -> int:
        """A length, number or index: 64 bits wide in CDF-5."""
        return int(struct.unpack(">Q", self.take(8))[0]) if self.wide else self.u32()

    def items(self, tag: int) -> int:
        """How many entries the list that begins here has."""
        found, many = self.u32(), self.count()
        if (found != tag and (found, many) != (0, 0)) or many > _MAX_ITEMS:
            raise NotNetCDF("damaged: the header of this NetCDF file makes no sense")
        return many

    def name(self) -> None:
        self.skip(_padded(self.count()))


def read_header(stream: BinaryIO, file_bytes: int) -> ClassicHeader:
    """The header at the start of `stream`. NotNetCDF where it is cut off or makes no sense."""
    reader = _Reader(stream, file_bytes)
    version = reader.take(4)[3]
    reader.wide = version == 5
    declared = reader.count()
    sizes = [_dimension(reader) for _ in range(reader.items(_DIMENSION))]
    _attributes(reader)
    many = reader.items(_VARIABLE)
    extents = [_variable(reader, sizes, version) for _ in range(many)]
    stride = _record_stride([extent for extent in extents if extent.is_record])
    streaming = (1 << (64 if reader.wide else 32)) - 1
    records = _records_in(extents, stride, file_bytes) if declared == streaming else declared
    ends = [_end(extent, stride, records) for extent in extents]
    return ClassicHeader(version, records, max([stream.tell(), *ends]))


def check_whole(stream: BinaryIO, file_bytes: int) -> ClassicHeader:
    """The header, of a file that holds every byte that it promises; else NotNetCDF."""
    header = read_header(stream, file_bytes)
    if file_bytes < header.needed_bytes:
        raise NotNetCDF(
            f"truncated: its header promises {header.needed_bytes} bytes, it has {file_bytes}"
        )
    return header


def _padded(count: int) -> int:
    return -(-count // 4) * 4


def _dimension(reader: _Reader) -> int:
    reader.name()
    return reader.count()


def _attributes(reader: _Reader) -> None:
    for _ in range(reader.items(_ATTRIBUTE)):
        reader.name()
        value_bytes = _type_bytes(reader)
        reader.skip(_padded(reader.count() * value_bytes))


def _type_bytes(reader: _Reader) -> int:
    try:
        return _TYPE_BYTES[reader.u32()]
    except KeyError:
        raise NotNetCDF("damaged: the header names a type that does not exist") from None


def _variable(reader: _Reader, sizes: list[int], version: int) -> _Extent:
    reader.name()
    rank = reader.count()
    if rank > _MAX_RANK:
        raise NotNetCDF("damaged: the header of this NetCDF file makes no sense")
    ids = [reader.count() for _ in range(rank)]
    if any(index >= len(sizes) for index in ids):
        raise NotNetCDF("damaged: a variable has a dimension that does not exist")
    _attributes(reader)
    value_bytes = _type_bytes(reader)
    reader.count()  # vsize: redundant, and capped for large variables, so it is computed instead
    begin = reader.u32() if version == 1 else int(struct.unpack(">Q", reader.take(8))[0])
    shape = [sizes[index] for index in ids]
    is_record = bool(shape) and shape[0] == 0
    return _Extent(begin, value_bytes * math.prod(shape[1:] if is_record else shape), is_record)


def _record_stride(record_variables: list[_Extent]) -> int:
    """Bytes from one record to the next; a lone record variable is not padded."""
    if len(record_variables) == 1:
        return record_variables[0].slab_bytes
    return sum(_padded(extent.slab_bytes) for extent in record_variables)


def _records_in(extents: list[_Extent], stride: int, file_bytes: int) -> int:
    """A writer that streams leaves the count open: as many as the file has room for."""
    begins = [extent.begin for extent in extents if extent.is_record]
    if not begins or stride == 0:
        return 0
    return max(file_bytes - min(begins), 0) // stride


def _end(extent: _Extent, stride: int, records: int) -> int:
    if not extent.is_record:
        return extent.begin + extent.slab_bytes if extent.slab_bytes else 0
    return extent.begin + (records - 1) * stride + extent.slab_bytes if records else 0
