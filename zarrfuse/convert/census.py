"""What an HDF5 file holds by HDF5's own account, so that nothing can be left out unseen.

libnetcdf skips datasets and attributes of types it does not know without an error, follows links
to other files, and corrupts memory on compounds with strings inside. h5py names all of that before
libnetcdf is let near the file. Values are not read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
from h5py import h5t

from zarrfuse.errors import NotNetCDF, Unsupported

#: Attributes by which netCDF-4 and HDF5's dimension scales work; they are structure, not content.
_STRUCTURE = frozenset(
    {
        "CLASS",
        "NAME",
        "DIMENSION_LIST",
        "REFERENCE_LIST",
        "DIMENSION_LABELS",
        "_Netcdf4Dimid",
        "_Netcdf4Coordinates",
        "_nc3_strict",
        "_NCProperties",
    }
)
_DIMENSION_ONLY = b"This is a netCDF dimension but not a netCDF variable"
_NAMES = {
    h5t.OPAQUE: "opaque data",
    h5t.REFERENCE: "references to other objects",
    h5t.BITFIELD: "bit fields",
    h5t.TIME: "the HDF5 time type",
    h5t.VLEN: "variable-length values",
    h5t.ARRAY: "arrays as values",
}


@dataclass(frozen=True, slots=True)
class Census:
    """Paths of the variables and groups ("" is the root), with the names of their attributes."""

    variables: dict[str, frozenset[str]]
    groups: dict[str, frozenset[str]]


def take_census(path: Path) -> Census:
    """Everything that must be found again. Unsupported names what Zarr cannot hold."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise NotNetCDF(f"damaged: {_one_line(error)}") from None
    with file:
        census = Census({}, {})
        _visit(file, "", census, ancestors=())
        return census


def _one_line(error: OSError) -> str:
    """The library's reason, without the path that it likes to add."""
    return str(error).partition("(")[2].rstrip(")") or "HDF5 cannot read it"


def _visit(group: h5py.Group, path: str, census: Census, ancestors: tuple[h5py.Group, ...]) -> None:
    if group in ancestors:
        raise Unsupported(f"group {path!r} contains itself")
    census.groups[path] = _attribute_names(group)
    for name, member in _members(group, path):
        here = f"{path}/{name}" if path else name
        if isinstance(member, h5py.Group):
            _visit(member, here, census, (*ancestors, group))
        elif isinstance(member, h5py.Dataset) and not _is_dimension_only(member):
            _check_dataset(member, here)
            census.variables[here] = _attribute_names(member)


def _members(group: h5py.Group, path: str) -> Iterator[tuple[str, h5py.HLObject]]:
    for name in group:
        here = f"{path}/{name}" if path else name
        if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
            raise Unsupported(f"{here!r} is a link to another file")
        try:
            yield name, group[name]
        except KeyError:
            raise Unsupported(f"{here!r} is a link to nothing") from None


def _attribute_names(owner: h5py.HLObject) -> frozenset[str]:
    return frozenset(owner.attrs) - _STRUCTURE


def _is_dimension_only(dataset: h5py.Dataset) -> bool:
    if "NAME" not in dataset.attrs or "CLASS" not in dataset.attrs:
        return False
    name = dataset.attrs["NAME"]
    return isinstance(name, bytes) and name.startswith(_DIMENSION_ONLY)


def _check_dataset(dataset: h5py.Dataset, path: str) -> None:
    """Refuses what would be read wrongly, or from other files than the one that was given."""
    if dataset.external or dataset.is_virtual:
        raise Unsupported(f"variable {path!r} keeps its values in another file")
    if dataset.shape is None:
        raise Unsupported(f"variable {path!r} has no shape (a null dataspace)")
    reason = _unsupported(dataset.id.get_type())
    if reason is not None:
        raise Unsupported(f"variable {path!r} holds {reason}, which Zarr cannot")


def _unsupported(kind: h5t.TypeID) -> str | None:
    """Why a variable of this type cannot be kept; None if it can."""
    match kind.get_class():
        case h5t.INTEGER | h5t.ENUM | h5t.STRING:
            return None
        case h5t.FLOAT:
            size = kind.get_size()
            return None if size in (4, 8) else f"{8 * size}-bit floating-point numbers"
        case h5t.COMPOUND:
            return _unsupported_member(kind)
        case other:
            return _NAMES.get(other, "values of an unknown type")


def _unsupported_member(kind: h5t.TypeCompoundID) -> str | None:
    for index in range(kind.get_nmembers()):
        member = kind.get_member_type(index)
        name = kind.get_member_name(index).decode(errors="replace")
        size, of = member.get_size(), member.get_class()
        plain = of == h5t.INTEGER or (of == h5t.FLOAT and size in (4, 8))
        character = of == h5t.STRING and size == 1 and not member.is_variable_str()
        if not plain and not character:
            return f"records whose member {name!r} is neither a number nor a character"
    return None
