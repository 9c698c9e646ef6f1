"""What `--sel` and `--isel` select: the very objects that xarray then asks for."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.abc.store import Store
from zarr.storage import LocalStore, WrapperStore

from zarrfuse.cli.selection import Parts, Selection, positions_of, select, split_range
from zarrfuse.errors import ExitCode, UserError

#: Name of a store to how it is written.
FORMS: dict[str, dict[str, Any]] = {
    "v2": {"zarr_format": 2},
    "v2 slashes": {"zarr_format": 2, "slashes": True},
    "v3": {"zarr_format": 3},
    "v3 sharded": {"zarr_format": 3, "shards": (6, 4, 8)},
    "v3 not consolidated": {"zarr_format": 3, "consolidated": False},
}
TIMES, LATS, LONS = 24, 9, 16


def dataset() -> xr.Dataset:
    values = np.arange(TIMES * LATS * LONS, dtype="f4").reshape(TIMES, LATS, LONS) + 1
    return xr.Dataset(
        {
            "sst": (("time", "lat", "lon"), values),
            "mask": (("lat", "lon"), values[0]),
            "mean": (("time",), values[:, 0, 0]),
        },
        coords={
            "time": xr.date_range("2000-01-01", periods=TIMES, freq="MS", use_cftime=False),
            "lat": np.linspace(80, -80, LATS),
            "lon": np.linspace(0, 337.5, LONS),
            "height": (("lat", "lon"), values[1]),
        },
    )


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("stores")
    return {form: written(root / f"{form}.zarr", **how) for form, how in FORMS.items()}


def written(path: Path, *, slashes: bool = False, shards: Any = None, **how: Any) -> Path:
    plane: dict[str, Any] = {"chunks": (2, 4)}
    encoding: dict[str, Any] = {"sst": {"chunks": (3, 2, 4)}, "mask": plane, "height": plane}
    if shards:
        encoding["sst"]["shards"] = shards
    if slashes:
        for form in encoding.values():
            form["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
    dataset().to_zarr(path, encoding=encoding, **how)
    return path


class Recording(WrapperStore[Store]):
    """Remembers the keys that were asked for and found."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.found: set[str] = set()

    async def get(self, key: str, *args: Any, **how: Any) -> Any:
        value = await self._store.get(key, *args, **how)
        if value is not None:
            self.found.add(key)
        return value

    async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
        asked = list(key_ranges)
        values = await self._store.get_partial_values(prototype, asked)
        self.found |= {key for (key, _), value in zip(asked, values, strict=True) if value}
        return values

    def get_sync(self, key: str, *args: Any, **how: Any) -> Any:
        return asyncio.run(self.get(key, *args, **how))


def selected(path: Path, parts: Parts) -> set[str]:
    """The objects that the parts name, of those that there are."""
    named = list(parts.files)
    for array, box in parts.boxes:
        named += [array / key for key in box.in_key_order()]
    for tree in parts.trees:
        named += [file for file in tree.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)) for file in named if file.is_file()}


def read_by_xarray(path: Path, variables: list[str], sel: Any, isel: Any) -> set[str]:
    store = Recording(LocalStore(path, read_only=True))
    with xr.open_dataset(store, engine="zarr", chunks=None, cache=False) as seen:
        seen.sel(sel).isel(isel)[variables].load()
    return store.found


VARIABLES = st.lists(st.sampled_from(["sst", "mask", "mean", "height"]), min_size=1, unique=True)
MONTHS = [f"{2000 + n // 12}-{n % 12 + 1:02}" for n in range(TIMES)]


@st.composite
def selections(draw: st.DrawFn) -> tuple[list[str], dict[str, Any], list[str], dict[str, Any]]:
    """As text for us and as objects for xarray: labels, then positions."""
    sel_text, sel, isel_text, isel = [], {}, [], dict[str, Any]()
    if draw(st.booleans()):
        start, stop = sorted(draw(st.tuples(*[st.integers(0, TIMES - 1)] * 2)))
        sel_text.append(f"time={MONTHS[start]}:{MONTHS[stop]}")
        sel["time"] = slice(MONTHS[start], MONTHS[stop])
    if draw(st.booleans()):
        low = draw(st.integers(-80, 60))
        sel_text.append(f"lat={low}:{low + 20}")
        sel["lat"] = slice(low + 20, low)  # latitudes run down here, and xarray wants to be told
    if draw(st.booleans()):
        at = draw(st.integers(0, LONS - 1))
        sel_text.append(f"lon={at * 22.5}")
        sel["lon"] = at * 22.5
    elif draw(st.booleans()):
        start = draw(st.integers(-LONS, LONS - 1))
        isel_text.append(f"lon={start}:")
        isel["lon"] = slice(start, None)
    return sel_text, sel, isel_text, isel


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=8)
@given(chosen=selections(), variables=VARIABLES)
def test_what_is_selected_is_what_xarray_reads(
    stores: dict[str, Path], form: str, chosen: Any, variables: list[str]
) -> None:
    sel_text, sel, isel_text, isel = chosen
    path = stores[form]
    parts = select(path, Selection.of(sel_text, isel_text, variables))
    read = read_by_xarray(path, variables, sel, isel)
    found = selected(path, parts)
    assert {key for key in found if is_chunk(key)} == {key for key in read if is_chunk(key)}
    assert read <= found, "all metadata that was read"


def is_chunk(key: str) -> bool:
    return not key.endswith(("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"))


def test_without_variables_all_are_selected(stores: dict[str, Path]) -> None:
    parts = select(stores["v2"], Selection.of((), ["time=0:1"], ()))
    assert {array.name for array, _ in parts.boxes} == set(dataset().variables)


def test_an_array_is_a_store_of_one_variable(stores: dict[str, Path]) -> None:
    alone = select(stores["v3"] / "sst", Selection.of(["lat=0"], (), ()))
    assert alone == select(stores["v3"], Selection.of(["lat=0"], (), ["sst"]))


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_times_of_every_calendar_are_labels(tmp_path: Path, calendar: str) -> None:
    times = xr.date_range(
        "1850-01-01", periods=36, freq="MS", calendar=calendar, use_cftime=calendar != "standard"
    )
    data = xr.Dataset({"t": (("time",), np.arange(36.0))}, coords={"time": times})
    data.to_zarr(tmp_path / "s.zarr", zarr_format=2, encoding={"t": {"chunks": (1,)}})

    def chunks(text: str) -> tuple[int, int]:
        parts = select(tmp_path / "s.zarr", Selection.of([f"time={text}"], (), ()))
        return {array.name: box.ranges[0] for array, box in parts.boxes}["t"]

    assert chunks("1851") == (12, 24)
    assert chunks("1851-02:1851-04") == (13, 16)
    assert chunks("1852-11:") == (34, 36)
    assert chunks("1851-02-01T00:00:1851-03-01T00:00:00") == (13, 15)


def test_labels_are_text_too(tmp_path: Path) -> None:
    data = xr.Dataset({"t": (("place",), np.arange(4.0))}, coords={"place": list("abcd")})
    data.to_zarr(tmp_path / "s.zarr", zarr_format=2, encoding={"t": {"chunks": (1,)}})
    parts = select(tmp_path / "s.zarr", Selection.of(["place=b:c"], (), ["t"]))
    assert {array.name: box.ranges for array, box in parts.boxes}["t"] == ((1, 3),)


def test_an_array_without_a_regular_grid_is_taken_whole(tmp_path: Path) -> None:
    """What xarray can read and we cannot understand: more rather than less."""
    data = xr.Dataset({"t": (("x",), np.arange(4.0)), "u": (("x",), np.arange(4.0))})
    data.to_zarr(tmp_path / "s.zarr", zarr_format=2, encoding={"t": {"chunks": (1,)}})
    spoilt = tmp_path / "s.zarr/t/.zarray"
    spoilt.write_bytes(spoilt.read_bytes().replace(b'"zarr_format"', b'"another_format"'))
    parts = select(tmp_path / "s.zarr", Selection.of((), ["x=0:1"], ()))
    assert parts.trees == [tmp_path / "s.zarr/t"]
    assert [array.name for array, _ in parts.boxes] == ["u"]


@pytest.mark.parametrize(
    ("sel", "isel", "var", "said"),
    [
        (["tim=2000"], [], [], "time"),
        ([], ["depth=1"], [], "lat"),
        ([], [], ["sss"], "sst"),
        (["lat=1:2"], [], [], "runs from 80"),
        (["lat=north"], [], [], "runs from 80"),
        (["time=1999"], [], [], "runs from 2000"),
        (["lat"], [], [], "dim=a:b"),
        (["lat=1", "lat=2"], [], [], "twice"),
        (["lat=1"], ["lat=2"], [], "lat"),
        ([], ["lat=99"], [], "9 positions"),
        ([], ["lat=1:2:3"], [], "i:j"),
    ],
)
def test_what_is_not_there_is_named(
    stores: dict[str, Path], sel: list[str], isel: list[str], var: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        select(stores["v2"], Selection.of(sel, isel, var))
    assert caught.value.exit_code == ExitCode.USAGE


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Zarr store") as caught:
        select(tmp_path, Selection.of(["x=1"], (), ()))
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a:b", ("a", "b")),
        ("a..b", ("a", "b")),
        (":b", ("", "b")),
        ("a:", ("a", "")),
        (":", ("", "")),
        ("a", None),
        ("a..", ("a", "")),
    ],
)
def test_a_range_has_two_sides(text: str, parts: tuple[str, str] | None) -> None:
    assert split_range(text, str.isalpha) == parts


def test_a_range_that_could_be_parted_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"a\.\.b"):
        split_range("a:b:c", bool)


@given(st.integers(1, 50), st.none() | st.integers(-60, 60), st.none() | st.integers(-60, 60))
def test_positions_count_as_python_does(length: int, start: int | None, stop: int | None) -> None:
    text = f"{'' if start is None else start}:{'' if stop is None else stop}"
    first, last = positions_of("x", text, length)
    assert list(range(first, last)) == list(range(length))[start:stop]


def test_an_array_of_absurdly_many_chunks_is_refused(tmp_path: Path) -> None:
    array = tmp_path / "s.zarr/huge"
    array.mkdir(parents=True)
    (array.parent / ".zgroup").write_text('{"zarr_format": 2}')
    array.joinpath(".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["x"]}')
    document = {
        "zarr_format": 2, "shape": [10**12], "chunks": [10], "dtype": "<f4", "order": "C",
        "compressor": None, "filters": None, "fill_value": 0,
    }  # fmt: skip
    array.joinpath(".zarray").write_text(json.dumps(document))
    with pytest.raises(UserError, match="100000000000 chunks") as caught:
        select(array.parent, Selection.of([], [], ["huge"]))
    assert caught.value.exit_code == ExitCode.USAGE
    ((_, box),) = select(array.parent, Selection.of([], ["x=-20:"], [])).boxes
    assert box.count == 2
