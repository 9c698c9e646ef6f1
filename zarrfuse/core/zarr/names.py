"""The object names by which a directory is known to be a Zarr group or array.

Pure. From the Zarr specifications v2 and v3.
"""

from __future__ import annotations

from collections.abc import Container

from zarrfuse.core.keys import Key, Prefix

#: Any of these in a directory makes it a Zarr node.
NODE_NAMES = ("zarr.json", ".zgroup", ".zarray")

#: Those of them that may describe an array.
ARRAY_NAMES = ("zarr.json", ".zarray")

#: Objects that describe, as opposed to chunks, which hold data; written last and deleted first.
METADATA_NAMES = frozenset({*NODE_NAMES, ".zattrs", ".zmetadata"})

_ONLY_V2 = METADATA_NAMES - {"zarr.json"}
_NEVER = (".aux.xml", ".gmac", ".aux", ".AUX", ".nczarr")

#: Endings of NetCDF file names, which the name of the store does not keep.
_NETCDF_ENDINGS = (".nc", ".nc4", ".cdf", ".h5", ".hdf5", ".netcdf")


def is_impossible(name: str, siblings: Container[str]) -> bool:
    """Whether a directory with these names is known to have none of this name: what clients look
    for in a node of the other Zarr version, and GDAL beside every file (facts: zarr-netcdf 1.9)."""
    if "zarr.json" in siblings:
        return name in _ONLY_V2 or name.endswith(_NEVER)
    if ".zgroup" in siblings or ".zarray" in siblings:
        return name == "zarr.json" or name.endswith(_NEVER)
    return False


def may_be_chunk(name: str) -> bool:
    """Whether the last component of a key looks like a chunk's: `0`, `1.2.3`, or a scalar's `c`."""
    return name == "c" or name.replace(".", "").isdecimal()


def is_metadata_name(name: str) -> bool:
    """Whether the last component of a key names Zarr metadata rather than a chunk."""
    return name in METADATA_NAMES


def store_root(source: Key) -> Prefix:
    """Where the store of a dropped file goes: `a/b.nc` becomes `a/b.zarr/`."""
    name = source.name
    for ending in _NETCDF_ENDINGS:
        if name.lower().endswith(ending) and len(name) > len(ending):
            name = name[: -len(ending)]
            break
    return source.parent.directory(f"{name}.zarr")
