"""One NetCDF file, described exactly and read raw: no masks, no scales, no joined characters.

netCDF4-python reads; what it hides is fetched from libnetcdf, and what that hides is counted by
the census. Runs in the worker process only: these libraries crash on some files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import netCDF4
import numpy as np

from zarrfuse.convert.census import Census, take_census
from zarrfuse.convert.libnetcdf import LibNetCDF
from zarrfuse.convert.magic import Format, recognise
from zarrfuse.convert.model import (
    Attribute,
    Compound,
    DataType,
    Dimension,
    Enumeration,
    Group,
    Plain,
    Records,
    Value,
    Variable,
    VlenText,
    numpy_type,
)
from zarrfuse.errors import NotNetCDF, Unsupported

#: What netCDF4-python puts where bytes are not UTF-8: the original bytes are gone then.
_REPLACEMENT = "\ufffd"


class Source:
    """An open file. `root` describes it; `read` gives values. Close it, or use `with`."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            self._format = recognise(stream)
        census = take_census(path) if self._format is Format.HDF5 else None
        try:
            self._dataset = netCDF4.Dataset(path, "r")
        except OSError as error:
            raise NotNetCDF(f"damaged: {error.strerror or 'libnetcdf cannot open it'}") from None
        self._variables: dict[str, netCDF4.Variable[Any]] = {}
        self._library = LibNetCDF()
        try:
            self._dataset.set_auto_maskandscale(False)
            self._dataset.set_auto_chartostring(False)
            self._dataset.set_always_mask(False)
            self.root = self._group(self._dataset, "")
            if census is not None:
                _compare(self.root, census)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._dataset.close()

    def read(self, path: str, variable: Variable, box: tuple[slice, ...]) -> np.ndarray:
        """The values of one box, in the file's own type and byte order, C-contiguous."""
        try:
            data = np.asarray(self._variables[path][box if variable.shape else ...])
        except (OSError, RuntimeError) as error:
            if "emory" in str(error):  # NC_ENOMEM: the limit, and not the file
                raise MemoryError(str(error)) from None
            raise NotNetCDF(f"damaged: variable {path!r} cannot be read: {error}") from None
        match variable.type:
            case VlenText():
                return _checked_text(data, path)
            case Compound(_, fields):
                return _packed(data, fields)
            case kind:
                return _exact(data, numpy_type(kind), path)

    def _group(self, group: netCDF4.Dataset, path: str) -> Group:
        named = self._library.variable_names(group._grpid)
        lost = [name for name in named if name not in group.variables]
        if lost:
            raise Unsupported(f"variable {lost[0]!r} has a type that Zarr cannot hold")
        dimensions = tuple(
            Dimension(item.name, len(item), item.isunlimited())
            for item in group.dimensions.values()
        )
        return Group(
            path,
            dimensions,
            tuple(self._variable(group.variables[name], path) for name in named),
            tuple(self._attributes(group, None, f"group {path!r}" if path else "the file")),
            tuple(
                self._group(child, f"{path}/{name}" if path else name)
                for name, child in group.groups.items()
            ),
        )

    def _variable(self, variable: netCDF4.Variable[Any], group: str) -> Variable:
        path = f"{group}/{variable.name}" if group else variable.name
        self._variables[path] = variable
        chunks = variable.chunking()
        return Variable(
            variable.name,
            _type_of(variable, path),
            tuple(_dimension_path(item) for item in variable.get_dims()),
            tuple(int(size) for size in variable.shape),
            tuple(int(size) for size in chunks) if isinstance(chunks, list | tuple) else None,
            tuple(self._attributes(variable.group(), variable, f"variable {path!r}")),
        )

    def _attributes(
        self, group: netCDF4.Dataset, variable: netCDF4.Variable[Any] | None, owner: str
    ) -> Iterator[Attribute]:
        holder = group if variable is None else variable

        def records(name: str) -> Value:
            return _records(holder.getncattr(name), name, owner)

        number = None if variable is None else variable._varid
        return self._library.attributes(group._grpid, number, owner, records)


def _type_of(variable: netCDF4.Variable[Any], path: str) -> DataType:
    kind = variable.datatype
    if variable.dtype is str:
        return VlenText()
    if isinstance(kind, netCDF4.EnumType):
        members = tuple((str(name), int(value)) for name, value in kind.enum_dict.items())
        return Enumeration(np.dtype(kind.dtype).str, kind.name, members)
    if isinstance(kind, netCDF4.CompoundType):
        return Compound(kind.name, _plain_fields(np.dtype(kind.dtype), f"variable {path!r}"))
    if isinstance(kind, netCDF4.VLType):
        raise Unsupported(f"variable {path!r} holds variable-length values, which Zarr cannot")
    return Plain(np.dtype(variable.dtype).str)


def _plain_fields(dtype: np.dtype, owner: str) -> tuple[tuple[str, str], ...]:
    """(name, dtype) of each member, offsets dropped: zarr readers take packed records only."""
    fields = []
    for name in dtype.names or ():
        member = dtype[name]
        if member.kind not in "iufS":
            raise Unsupported(f"{owner} holds records with member {name!r}, which Zarr cannot")
        fields.append((name, member.str))
    return tuple(fields)


def _records(value: object, name: str, owner: str) -> Records:
    array = np.atleast_1d(np.asarray(value))
    fields = _plain_fields(array.dtype, f"attribute {name!r} of {owner}")
    return Records(fields, _packed(array, fields).tobytes())


def _dimension_path(dimension: netCDF4.Dimension) -> str:
    group = dimension.group().path.strip("/")
    return f"/{group}/{dimension.name}" if group else f"/{dimension.name}"


def _checked_text(data: np.ndarray, path: str) -> np.ndarray:
    objects = data.astype(object)
    if any(_REPLACEMENT in item for item in objects.flat):
        raise Unsupported(f"variable {path!r} holds strings that are not UTF-8")
    return objects


def _packed(data: np.ndarray, fields: tuple[tuple[str, str], ...]) -> np.ndarray:
    result = np.empty(data.shape, list(fields))
    for name, _ in fields:
        result[name] = data[name]
    return result


def _exact(data: np.ndarray, dtype: np.dtype, path: str) -> np.ndarray:
    """The same bits as `dtype`: never a cast, at most another byte order."""
    if data.dtype == dtype.newbyteorder():
        data = data.byteswap().view(dtype)
    if data.dtype != dtype:
        raise Unsupported(f"variable {path!r} was read as {data.dtype}, not as {dtype}")
    return np.ascontiguousarray(data).reshape(data.shape)


def _compare(root: Group, census: Census) -> None:
    """What HDF5 counts and libnetcdf does not show would be lost: refuse it by name."""
    variables = {path: item.attributes for path, item in root.all_variables()}
    groups = {group.path: group.attributes for group in root.walk()}
    for what, found, counted in (
        ("variable", variables, census.variables),
        ("group", groups, census.groups),
    ):
        for path, names in counted.items():
            if path not in found:
                raise Unsupported(f"{what} {path!r} is of a kind that NetCDF readers cannot see")
            lost = names - {attribute.name for attribute in found[path]}
            if lost:
                raise Unsupported(
                    f"attribute {min(lost)!r} of {what} {path!r} has a type that Zarr cannot hold"
                )
