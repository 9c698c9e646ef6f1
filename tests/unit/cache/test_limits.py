"""Defaults of the limits, what a block lacks, and opening what cannot be opened."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ByteSize
from structlog.testing import capture_logs

from tests.support.cache_fakes import block_id
from zarrfuse.cache.blocks import BlockCache
from zarrfuse.cache.limits import DiskSpace, Limits, Usage
from zarrfuse.cache.opening import open_disk_tier
from zarrfuse.cache.tiers import NoDisk
from zarrfuse.config import GIB, Cache


@pytest.mark.parametrize(("disk", "size"), [(100 * GIB, 10 * GIB), (4000 * GIB, 50 * GIB)])
def test_a_tenth_of_the_disk_but_not_too_much(disk: int, size: int) -> None:
    limits = Limits.of(Cache(), DiskSpace(disk, disk))
    assert limits == Limits(size, disk // 20)


def test_the_given_size_stands() -> None:
    config = Cache(size=ByteSize(7), keep_free_fraction=0)
    assert Limits.of(config, DiskSpace(GIB, GIB)) == Limits(7, 0)


@pytest.mark.parametrize(
    ("total", "reserved", "free", "wanted", "lacking"),
    [
        (0, 0, 1000, 10, -90),  # far from both limits: the size is nearer
        (95, 0, 1000, 10, 5),
        (0, 0, 55, 10, 5),  # the disk is
        (20, 20, 55, 10, 25),  # what is reserved is not on the disk yet
        (100, 0, 1000, 0, 0),
    ],
)
def test_shortfall(total: int, reserved: int, free: int, wanted: int, lacking: int) -> None:
    limits = Limits(size_bytes=100, keep_free_bytes=50)
    assert limits.shortfall(Usage(1, total, reserved), free, wanted) == lacking


def test_opens_where_it_is_told(tmp_path: Path) -> None:
    tier = open_disk_tier(Cache(directory=tmp_path / "new" / "cache", keep_free_fraction=0))
    assert isinstance(tier, BlockCache)
    assert tier.put(block_id(1), bytes(1000))
    assert (tmp_path / "new" / "cache" / "v1").is_dir()
    tier.close()


def test_a_directory_that_cannot_be_made_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with capture_logs() as logs:
        tier = open_disk_tier(Cache(directory=tmp_path / "file" / "cache"))
    assert [(line["event"], line["log_level"]) for line in logs] == [("cache.no_disk", "warning")]
    assert isinstance(tier, NoDisk)
    assert tier.get(block_id(1)) is None
    assert tier.reserve(block_id(1)) is None
    assert not tier.put(block_id(1), bytes(1000))


def test_size_zero_means_no_disk_tier(tmp_path: Path) -> None:
    assert isinstance(open_disk_tier(Cache(directory=tmp_path, size=ByteSize(0))), NoDisk)
    assert list(tmp_path.iterdir()) == []
