"""The few calls of libnetcdf that netCDF4-python does not offer, on the library it has loaded.

netCDF4-python cannot tell NC_CHAR from NC_STRING, turns one-element attributes into scalars,
strips NULs, replaces bytes that are not UTF-8, and leaves out variables whose type it does not
know without a word. Here attributes come as they are, and every variable is named.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path

from zarrfuse.convert.model import Attribute, Numbers, Strings, Text, Value
from zarrfuse.errors import Unsupported

#: netcdf.h
_NC_GLOBAL = -1
_NC_MAX_NAME = 256
_NC_CHAR, _NC_STRING = 2, 12
_NC_ENUM, _NC_COMPOUND = 15, 16
_NC_FIRSTUSERTYPEID = 32
_DTYPES = {
    1: "|i1",
    3: "<i2",
    4: "<i4",
    5: "<f4",
    6: "<f8",
    7: "|u1",
    8: "<u2",
    9: "<u4",
    10: "<i8",
    11: "<u8",
}
_ITEM_BYTES = {code: int(dtype[2:]) for code, dtype in _DTYPES.items()}

#: Gives the value of a compound attribute of the variable (None: of the group) by its name.
ReadRecords = Callable[[str], Value]


class LibNetCDF:
    """The shared library that netCDF4 uses in this process; import netCDF4 first."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL(_loaded_library())
        self._lib.nc_strerror.restype = ctypes.c_char_p

    def variable_names(self, group: int) -> list[str]:
        """All variables of one group, in order, whatever their type."""
        many = ctypes.c_int()
        self._call("nc_inq_varids", group, ctypes.byref(many), None)
        ids = (ctypes.c_int * many.value)()
        self._call("nc_inq_varids", group, ctypes.byref(many), ids)
        return [self._name("nc_inq_varname", group, number) for number in ids]

    def attributes(
        self, group: int, variable: int | None, owner: str, records: ReadRecords
    ) -> Iterator[Attribute]:
        """All attributes of a variable, or of the group, in the file's order.

        `owner` names it in messages; compound values are read by `records`.
        """
        number = _NC_GLOBAL if variable is None else variable
        many = ctypes.c_int()
        self._call("nc_inq_varnatts", group, number, ctypes.byref(many))
        for index in range(many.value):
            name = self._name("nc_inq_attname", group, number, index)
            value = self._value(group, number, name, records)
            if value is None:
                raise Unsupported(
                    f"attribute {name!r} of {owner} has a type (opaque, reference or "
                    "variable-length) that Zarr cannot hold"
                )
            yield Attribute(name, value)

    def _value(self, group: int, variable: int, name: str, records: ReadRecords) -> Value | None:
        kind, count = ctypes.c_int(), ctypes.c_size_t()
        at = (group, variable, name.encode())
        self._call("nc_inq_att", *at, ctypes.byref(kind), ctypes.byref(count))
        code = kind.value
        if code >= _NC_FIRSTUSERTYPEID:
            base, shape_of = self._user_type(group, code)
            if shape_of == _NC_COMPOUND:
                return records(name)
            if shape_of != _NC_ENUM:
                return None
            code = base
        match code:
            case 2:
                return Text(self._raw(at, count.value))
            case 12:
                return Strings(self._strings(at, count.value))
            case _ if code in _DTYPES:
                return Numbers(_DTYPES[code], self._raw(at, count.value * _ITEM_BYTES[code]))
            case _:
                return None

    def _raw(self, at: tuple[int, int, bytes], size: int) -> bytes:
        if size == 0:
            return b""
        buffer = ctypes.create_string_buffer(size)
        self._call("nc_get_att", *at, buffer)
        return buffer.raw

    def _strings(self, at: tuple[int, int, bytes], count: int) -> tuple[bytes, ...]:
        if count == 0:
            return ()
        array = (ctypes.c_char_p * count)()
        self._call("nc_get_att", *at, array)
        values = tuple(item or b"" for item in array)
        self._call("nc_free_string", ctypes.c_size_t(count), array)
        return values

    def _user_type(self, group: int, code: int) -> tuple[int, int]:
        """The base type and the class of a user-defined type."""
        name = ctypes.create_string_buffer(_NC_MAX_NAME + 1)
        size, fields = ctypes.c_size_t(), ctypes.c_size_t()
        base, kind = ctypes.c_int(), ctypes.c_int()
        outputs = [ctypes.byref(item) for item in (size, base, fields, kind)]
        self._call("nc_inq_user_type", group, code, name, *outputs)
        return base.value, kind.value

    def _name(self, function: str, *arguments: int) -> str:
        buffer = ctypes.create_string_buffer(_NC_MAX_NAME + 1)
        self._call(function, *arguments, buffer)
        try:
            return buffer.value.decode()
        except UnicodeDecodeError:
            raise Unsupported(f"the name {buffer.value!r} is not UTF-8") from None

    def _call(self, function: str, *arguments: object) -> None:
        status = getattr(self._lib, function)(*arguments)
        if status != 0:
            reason = self._lib.nc_strerror(status).decode(errors="replace")
            raise OSError(status, f"{function}: {reason}")


def _loaded_library() -> str:
    """The path of the libnetcdf that is mapped into this process (bundled or the system's)."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.rpartition(" ")[2]
        if "/libnetcdf" in path:
            return path
    raise RuntimeError("netCDF4 has loaded no shared libnetcdf")
