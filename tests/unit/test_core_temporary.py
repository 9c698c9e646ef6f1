"""Temporary names, by the names that real programs give (traced; docs/SEMANTICS.md)."""

from __future__ import annotations

import pytest

from zarrfuse.core.temporary import Temporary, temporary_at_creation, temporary_by_name

HEX = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (f"0.0.{HEX}.partial", Temporary.CERTAIN),  # zarr-python
        (f".zarray.{HEX}.partial", Temporary.CERTAIN),
        (f"zarr.{HEX}.partial", Temporary.CERTAIN),
        ("0.0.0.__lock", Temporary.CERTAIN),  # tensorstore
        (".fuse_hidden0000000b00000001", Temporary.CERTAIN),
        ("x.nc.pid4997.ncks.tmp", Temporary.LIKELY),  # NCO
        (".notes.txt.swp", Temporary.LIKELY),  # vim
        (".~analysis.ipynb", Temporary.LIKELY),  # Jupyter
        (".config.backup", None),
        ("x.partial", None),
        ("zarr.json", None),
        (".zarray", None),
        ("0.0", None),
        ("data.tmp", None),
    ],
)
def test_by_name(name: str, kind: Temporary | None) -> None:
    assert temporary_by_name(name) is kind


def test_rsync_is_known_by_the_way_it_creates_its_file() -> None:
    name = ".sst.nc.Ab3dE9"
    assert temporary_at_creation(name, exclusive=True, mode=0o100600) is Temporary.LIKELY
    assert temporary_at_creation(name, exclusive=False, mode=0o600) is None
    assert temporary_at_creation(name, exclusive=True, mode=0o644) is None
    assert temporary_at_creation(".config.backup", exclusive=True, mode=0o644) is None
