"""`--sel`, `--isel` and `--var` of a Zarr store: which objects hold what they select.

Labels mean what xarray makes of them; which chunks positions lie in is read from the array's own
metadata. Reads the store as any program does, below a path, and knows no mount and no daemon.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zarrfuse.core.zarr.boxes import MAX_COUNT, Box, Range, box_of
from zarrfuse.core.zarr.metadata import ArrayGrid, parse_array
from zarrfuse.core.zarr.names import METADATA_NAMES
from zarrfuse.errors import ExitCode, UserError

#: As much of an ISO 8601 time as a label may be: `2000`, `2000-01`, `2000-01-31T12:00`, `20000131`.
_TIME = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d+)?)?)?)?)?)?Z?|\d{8}")
#: An array says what it is in one of these.
_ARRAY_NAMES = ("zarr.json", ".zarray")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a user asked for: text per dimension, and the variables; none: all."""

    labels: Mapping[str, str]
    positions: Mapping[str, str]
    variables: tuple[str, ...]

    @classmethod
    def of(cls, sel: Iterable[str], isel: Iterable[str], var: Iterable[str]) -> Selection:
        """From `dim=a:b` as given. UserError for what is no such thing."""
        labels, positions = _by_dimension("--sel", sel), _by_dimension("--isel", isel)
        for dim in labels.keys() & positions.keys():
            raise UserError(f"--sel and --isel both name {dim}: leave one out", ExitCode.USAGE)
        return cls(labels, positions, tuple(var))

    def __bool__(self) -> bool:
        return bool(self.labels or self.positions or self.variables)


@dataclass(slots=True)
class Parts:
    """Paths of objects, some of which need not be there; boxes of chunks by their array's
    directory; and arrays to be taken whole, because their metadata says nothing of a grid."""

    files: list[Path] = field(default_factory=list)
    boxes: list[tuple[Path, Box]] = field(default_factory=list)
    trees: list[Path] = field(default_factory=list)


def select(path: Path, selection: Selection) -> Parts:
    """What `xarray.open_zarr(path)[variables].sel(...).isel(...).load()` reads: metadata,
    the labels of every dimension, and the chunks (or shards) that the selection touches.

    `path` is a store, a group of one, or an array. UserError for what is not in it.
    """
    group, chosen = path, selection.variables
    if is_array(path):
        group, chosen = path.parent, chosen or (path.name,)
    elif not any((path / name).exists() for name in METADATA_NAMES):
        raise UserError(
            f"{path}: no Zarr store, for it has neither zarr.json nor .zgroup; --sel, --isel and "
            "--var want the path of one store",
            ExitCode.USAGE,
        )
    dataset = _open(group, decode_times=bool(selection.labels))
    wanted = _ranges(dataset, selection)
    kept = set(_kept(dataset, chosen))
    is_v3 = (group / "zarr.json").is_file()
    described_by = ["zarr.json"] if is_v3 else sorted(METADATA_NAMES - {"zarr.json"})
    parts = Parts(files=[group / file for file in described_by])
    for name, variable in dataset.variables.items():
        parts.files += [group / name / file for file in described_by]
        if name in dataset.xindexes:  # xarray reads labels whole when it opens the store
            _add(parts, group / name, (), {})
        elif name in kept:
            _add(parts, group / name, variable.dims, wanted)
    return parts


def split_range(text: str, is_label: Callable[[str], bool]) -> tuple[str, str] | None:
    """`a:b` or `a..b` taken apart; None: it is one label. A side may be empty.

    Times have colons of their own: it is taken apart at the one at which both sides are labels.
    """
    if ".." in text:
        left, _, right = text.partition("..")
        return left, right
    found = [
        (text[:at], text[at + 1 :])
        for at, letter in enumerate(text)
        if letter == ":" and all(not s or is_label(s) for s in (text[:at], text[at + 1 :]))
    ]
    if len(found) > 1:
        raise UserError(f"{text}: which ':' parts it? Write a..b instead", ExitCode.USAGE)
    return found[0] if found else None


def _by_dimension(option: str, given: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        dim, equals, value = text.partition("=")
        if not dim or not equals or not value:
            raise UserError(f"{option} {text}: write dim=a:b, or dim=a", ExitCode.USAGE)
        if dim in found:
            raise UserError(f"{option} names {dim} twice", ExitCode.USAGE)
        found[dim] = value
    return found


def is_array(path: Path) -> bool:
    """Whether that directory is a Zarr array."""
    return any(
        parse_array(name, (path / name).read_bytes()) is not None
        for name in _ARRAY_NAMES
        if (path / name).is_file()
    )


def _open(group: Path, *, decode_times: bool) -> Any:
    """By xarray, which is loaded here and not with this module: it takes a second."""
    xarray = importlib.import_module("xarray")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return xarray.open_dataset(
                group, engine="zarr", chunks=None, cache=False, decode_times=decode_times
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{group}: xarray cannot open it: {error}", ExitCode.DATA) from None


def _kept(dataset: Any, chosen: tuple[str, ...]) -> Iterable[str]:
    """The chosen variables with their coordinates; without any, all."""
    for name in chosen:
        if name not in dataset.variables:
            known = ", ".join(map(str, dataset.variables))
            raise UserError(f"no variable {name!r}; there are: {known}", ExitCode.USAGE)
    kept: Iterable[str] = (dataset[list(chosen)] if chosen else dataset).variables
    return kept


def _ranges(dataset: Any, selection: Selection) -> dict[str, Range]:
    """The selected positions of each dimension that is named."""
    for dim in (*selection.labels, *selection.positions):
        if dim not in dataset.sizes:
            known = ", ".join(map(str, dataset.sizes))
            raise UserError(f"no dimension {dim!r}; there are: {known}", ExitCode.USAGE)
    found = {dim: _labelled(dataset, dim, text) for dim, text in selection.labels.items()}
    for dim, text in selection.positions.items():
        found[dim] = positions_of(dim, text, dataset.sizes[dim])
    return found


def positions_of(dim: str, text: str, length: int) -> Range:
    """What `i:j`, or `i`, means of an axis of that length, as Python counts."""
    try:
        numbers = [int(part) if part else None for part in text.split(":")]
    except ValueError:
        numbers = []
    match numbers:
        case [int(one)] if -length <= one < length:
            return one % length, one % length + 1
        case [int(one)]:
            raise UserError(f"--isel {dim}={one}: {dim} has {length} positions", ExitCode.USAGE)
        case [start, stop]:
            first, last, _ = slice(start, stop).indices(length)
            return first, max(first, last)
        case _:
            raise UserError(f"--isel {dim}={text}: write i:j, or i", ExitCode.USAGE)


def _labelled(dataset: Any, dim: str, text: str) -> Range:
    """The positions that labels select, from the first to the last."""
    if dim not in dataset.xindexes:
        raise UserError(f"--sel {dim}: it has no labels; --isel takes positions", ExitCode.USAGE)
    index = dataset.indexes[dim]
    is_number = index.dtype.kind in "iuf"
    parts = split_range(text, _is_number if is_number else _is_time if _has_times(index) else bool)
    try:
        if parts is None:
            found = _look_up(dataset, dim, _label(text, is_number=is_number))
        else:
            start, stop = (_label(part, is_number=is_number) if part else None for part in parts)
            # An axis may run down (latitudes often do): an interval is meant, not a direction.
            found = _look_up(dataset, dim, slice(start, stop))
            found = found if found else _look_up(dataset, dim, slice(stop, start))
    except (KeyError, ValueError, TypeError, IndexError):
        found = []
    if not found:
        runs = f"it runs from {index[0]} to {index[-1]}" if len(index) else "it has none"
        raise UserError(f"--sel {dim}={text}: no such label of {dim}; {runs}", ExitCode.USAGE)
    return min(found), max(found) + 1


def _look_up(dataset: Any, dim: str, labels: object) -> list[int]:
    """The positions that `xarray`'s own `sel` picks."""
    numbers = dataset[dim].copy(data=range(dataset.sizes[dim]))
    return [int(number) for number in numbers.sel({dim: labels}).values.ravel()]


def _has_times(index: Any) -> bool:
    """Of numpy, or of cftime for other calendars."""
    return index.dtype.kind == "M" or type(index).__name__ == "CFTimeIndex"


def _label(text: str, *, is_number: bool) -> float | str:
    if not is_number:
        return text
    try:
        return int(text)  # a float would not hold every one
    except ValueError:
        return float(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_time(text: str) -> bool:
    return _TIME.fullmatch(text) is not None


def _add(parts: Parts, array: Path, dims: Iterable[str], wanted: Mapping[str, Range]) -> None:
    """The chunks of one array. Dimensions that xarray took away (characters of a text) are whole,
    as are those that nobody named."""
    grid = _grid(array)
    if grid is None:
        parts.trees.append(array)
        return
    positions = [(0, length) for length in grid.shape]
    for axis, dim in enumerate(dims):
        positions[axis] = wanted.get(dim, positions[axis])
    box = box_of(grid, positions)
    if box.count > MAX_COUNT:
        raise UserError(
            f"{array}: {box.count} chunks are selected, and {MAX_COUNT} is the most; select fewer "
            "(--sel, --isel, --var), or warm the whole array by its path",
            ExitCode.USAGE,
        )
    parts.boxes.append((array, box))


def _grid(array: Path) -> ArrayGrid | None:
    for name in _ARRAY_NAMES:
        if (array / name).is_file():
            return parse_array(name, (array / name).read_bytes())
    return None
