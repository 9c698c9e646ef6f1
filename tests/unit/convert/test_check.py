"""The last gate: any change of the metadata on its way is seen."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from zarrfuse.convert.check import check_metadata
from zarrfuse.convert.frames import StoreObject
from zarrfuse.convert.metadata import check_names, documents, metadata_objects
from zarrfuse.convert.model import (
    Attribute,
    Compound,
    Dimension,
    Enumeration,
    Group,
    Numbers,
    Plain,
    Text,
    Variable,
    VlenText,
)
from zarrfuse.convert.plan import plan_store
from zarrfuse.errors import ConversionError, Unsupported


def number(name: str, value: Any, dtype: str) -> Attribute:
    return Attribute(name, Numbers(dtype, np.array([value], dtype).tobytes()))


VARIABLES = (
    Variable(
        "v",
        Plain("<f4"),
        ("/t", "/x"),
        (3, 4),
        (1, 4),
        (Attribute("units", Text(b"m")), number("_FillValue", np.nan, "<f4")),
    ),
    Variable("char", Plain("|S1"), ("/x",), (4,), None, (Attribute("_FillValue", Text(b" ")),)),
    Variable("enum", Enumeration("|i1", "e", (("a b", 1), ("c", 2))), (), (), None, ()),
    Variable("text", VlenText(), ("/x",), (4,), None, ()),
    Variable("record", Compound("r", (("a", "<i2"), ("b", "|S1"))), ("/x",), (4,), None, ()),
)
ROOT = Group(
    "",
    (Dimension("t", 3, True), Dimension("x", 4, False)),
    VARIABLES,
    (Attribute("title", Text("é\0".encode())),),
    (Group("g", (), (), (number("n", 2**63 - 1, "<i8"),), ()),),
)


def objects(root: Group = ROOT) -> list[StoreObject]:
    plans = plan_store(dict(root.all_variables()))
    return list(metadata_objects(root, documents(root, plans, {"name": "x.nc"})))


def changed(key: str, change: Callable[[Any], object]) -> list[StoreObject]:
    """The objects with one of them changed, in the consolidated metadata as well."""
    result = []
    for item in objects():
        document = json.loads(item.data)
        if item.key == key:
            change(document)
        if item.key == ".zmetadata":
            change(document["metadata"][key])
        result.append(StoreObject(item.key, item.stage, json.dumps(document).encode()))
    return result


def test_what_was_written_says_what_the_source_says() -> None:
    check_metadata(ROOT, objects())


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("v/.zarray", lambda d: d.update(shape=[4, 3])),
        ("v/.zarray", lambda d: d.update(dtype=">f4")),
        ("v/.zarray", lambda d: d.update(fill_value=0)),
        ("v/.zattrs", lambda d: d.update(units="km")),
        ("v/.zattrs", lambda d: d.update(extra=1)),
        ("v/.zattrs", lambda d: d["_nczarr_array"].update(dimension_references=["/x", "/t"])),
        ("char/.zarray", lambda d: d.update(fill_value="AA==")),
        ("enum/.zattrs", lambda d: d["_nc_zarrfuse"]["enum"]["members"].update(c=3)),
        ("record/.zarray", lambda d: d["dtype"].reverse()),
        ("text/.zarray", lambda d: d.update(dtype="|S4")),
        (".zattrs", lambda d: d["_nczarr_group"]["dimensions"].update(t=3)),
        (".zattrs", lambda d: d["_nc_zarrfuse"].clear()),
        ("g/.zattrs", lambda d: d.update(n=float(2**63 - 1))),
    ],
)
def test_a_change_is_seen(key: str, change: Callable[[Any], object]) -> None:
    with pytest.raises((ConversionError, KeyError, OverflowError, ValueError)):
        check_metadata(ROOT, changed(key, change))


def test_a_difference_to_the_consolidated_metadata_is_seen() -> None:
    found = objects()
    found[0] = StoreObject(found[0].key, found[0].stage, found[0].data.replace(b"3", b"2", 1))
    with pytest.raises(ConversionError, match="consolidated"):
        check_metadata(ROOT, found)


@pytest.mark.parametrize("name", [".zarray", "zarr.json", ".", "..", "a" * 300, "a/b"])
def test_names_that_are_no_part_of_a_key(name: str) -> None:
    bad = Group("", (), (Variable(name, Plain("<i4"), (), (), None, ()),), (), ())
    with pytest.raises(Unsupported):
        check_names(bad)
