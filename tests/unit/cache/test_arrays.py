"""Which array and chunk a key belongs to, once metadata has passed through."""

from __future__ import annotations

import json

import pytest

from zarrfuse.cache.arrays import Arrays
from zarrfuse.core.keys import Key

ARRAY = {"zarr_format": 2, "shape": [4], "chunks": [2], "dtype": "<f4"}


@pytest.mark.parametrize(("path", "prefix"), [("", "store/"), ("a", "store/a/"), ("", "")])
def test_consolidated_metadata_names_arrays_by_their_path(path: str, prefix: str) -> None:
    """ "" is the array whose own metadata it is."""
    name = f"{path}/.zarray" if path else ".zarray"
    document = {"zarr_consolidated_format": 1, "metadata": {name: ARRAY}}
    arrays = Arrays()
    root = prefix.removesuffix(f"{path}/") if path else prefix
    learned = arrays.learn(Key(f"{root}.zmetadata"), json.dumps(document).encode())
    assert [found for found, _ in learned.arrays] == [prefix]
    assert learned.small == (Key(f"{prefix}0"), Key(f"{prefix}1"))
    place = arrays.locate(Key(f"{prefix}1"))
    assert place is not None and (place.prefix, place.index) == (prefix, (1,))
